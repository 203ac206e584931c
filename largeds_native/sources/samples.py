"""What one sample of a Dataset is: an image, perhaps a label, masks and other pictures."""

from __future__ import annotations

import operator
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from largeds_native._internal.arrays import MASK, MAX_CHANNELS, layout_of
from largeds_native.errors import ArgumentError
from largeds_native.sources.base import FailedItem, Item
from largeds_native.sources.pictures import mask_item
from largeds_native.sources.values import numpy_of


@dataclass(frozen=True)
class Sample:
    """An image, its label or None, and its masks and other pictures."""

    image: Any
    label: int | None
    pictures: dict[str, Item]


def parts_of(sample: Any, where: str, roles: Mapping[str, str]) -> Sample:
    """`roles`: of the pictures in a dict; without masks, "mask" is one. ArgumentError says what else a sample is."""
    if isinstance(sample, dict) and "image" in sample:
        known = dict(roles)
        if MASK not in known.values() and "mask" in sample:
            known.setdefault("mask", MASK)
        pictures = {name: _picture_item(sample.get(name), role, where) for name, role in known.items()}
        label = sample.get("label")
        return Sample(sample["image"], None if label is None else label_of(label, where), pictures)
    if isinstance(sample, (tuple, list)) and len(sample) in (2, 3) and _is_picture(sample[1]):
        label = label_of(sample[2], where) if len(sample) == 3 else None
        name = next((name for name, role in roles.items() if role == MASK), "mask")
        return Sample(sample[0], label, {name: _picture_item(sample[1], MASK, where)})
    if isinstance(sample, (tuple, list)) and len(sample) == 2:
        return Sample(sample[0], label_of(sample[1], where), {})
    if isinstance(sample, (tuple, list, dict)):
        raise ArgumentError(
            f"{where}: expected (image, label), (image, mask, label), a dict with an 'image', or an image, found "
            f"{kind_of(sample)}: pack a Dataset that gives one of these"
        )
    return Sample(sample, None, {})


def _picture_item(value: Any, role: str, where: str) -> Item:
    """A mask, or another picture, as an item."""
    if role == MASK:
        return mask_item(value, where)
    if value is None:
        return FailedItem("missing", f"{where}: expected a {role}, found None")
    try:
        return item_of(value, where)
    except ArgumentError as error:
        return FailedItem("unsupported", str(error), error)


def _is_picture(value: Any) -> bool:
    """Whether it is a mask, and no label."""
    return (hasattr(value, "convert") and hasattr(value, "mode")) or getattr(value, "ndim", 0) >= 2


def kind_of(sample: Any) -> str:
    """In words, for messages."""
    if isinstance(sample, dict):
        return f"a dict of {', '.join(map(str, sample))}"[:200]
    if isinstance(sample, (tuple, list)):
        return f"a {type(sample).__name__} of {len(sample)} members"
    return type(sample).__name__


def label_of(value: Any, where: str) -> int:
    try:
        label = operator.index(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError, RuntimeError):
        hint = ""
        if isinstance(value, float) or getattr(getattr(value, "dtype", None), "is_floating_point", False):
            hint = (
                "; numbers to predict are a field: sources.arrays(images, fields={'target': ...}) or a table's column"
            )
        raise ArgumentError(
            f"{where}: expected a label that is a whole number, found {str(value)[:80]}{hint}"
        ) from None
    if not -(1 << 63) <= label < 1 << 63:
        raise ArgumentError(f"{where}: expected a label of at most 64 bits, found {str(label)[:80]}")
    return label


def bytes_of(item: Item) -> int:
    return item.nbytes if isinstance(item, np.ndarray) else len(item) if isinstance(item, bytes) else 1 << 17


def item_of(image: Any, where: str) -> Item:
    """A PIL image, an array, a tensor, a path or encoded bytes as an `Item`."""
    if image is None:
        raise ArgumentError(f"{where}: no image (None)")
    if isinstance(image, (bytes, str)):
        return image
    if isinstance(image, os.PathLike):
        return str(image)
    if hasattr(image, "convert") and hasattr(image, "mode"):
        wide = image.mode in ("RGB", "L") or image.mode[:1] in ("I", "F")  # the pack says how 16 bits become 8
        pixels = np.asarray(image if wide else image.convert("RGB"))
    elif hasattr(image, "detach"):
        pixels = numpy_of(image)
        if pixels.ndim == 3 and (pixels.shape[0] in (1, 3) or layout_of(pixels.shape[0], pixels.shape[2]) == "CHW"):
            pixels = pixels.transpose(1, 2, 0)
    else:
        pixels = np.asarray(image)
        if pixels.ndim == 3 and layout_of(pixels.shape[0], pixels.shape[2]) == "CHW":
            pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.dtype.kind not in "iuf" or pixels.ndim != 3 or pixels.shape[2] > MAX_CHANNELS or not pixels.size:
        words = (
            f"a PIL image, or an array or tensor of numbers (H, W), (H, W, C) or (C, H, W), C at most {MAX_CHANNELS}"
        )
        raise ArgumentError(f"{where}: expected {words}; found {pixels.dtype} of shape {pixels.shape}")
    return pixels
