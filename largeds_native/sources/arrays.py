"""Images in arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from largeds_native._internal.arrays import MASK, Array, FieldSpec, check_field_name, layout_of
from largeds_native._internal.machine import usable_threads
from largeds_native.errors import ArgumentError
from largeds_native.sources.base import IndexedSource, Indices, Item, Source, SourceBatch
from largeds_native.sources.classes import checked_labels, optional_names
from largeds_native.sources.masks import by_field, checked_ignore, mask_array
from largeds_native.sources.values import value_spec

BATCH_BYTES = 64 << 20


def arrays(
    images: Any,
    labels: Any = None,
    *,
    fields: Mapping[str, Any] | None = None,
    classes: Any = (),
    masks: Any = None,
    ignore: int | None = None,
) -> Source:
    """A source from images of shape (N, H, W), (N, H, W, C) or (N, C, H, W), in a numpy array, memmap or tensor, with N
    integer labels and further fields of N values each. `classes`: names of the labels' numbers, or a store that has
    them.

    images: uint8 of 1 or 3 channels become what `pack` makes of any images. uint16, int16, float16 and float32, and up
        to 32 channels, are resized and cropped, and stored in their own dtype.

    masks: (N, H, W) integers of the images' height and width, one a pixel, as the field "mask"; or a mapping from names
        of fields to such arrays. They are stored in the smallest of uint8, uint16 and int32 that has all numbers.
        ignore: the number of a mask's pixels outside of the image, which a random crop with padding shows.

    The last axis has the channels if it is 1 or 3 long, else the second if it is, else the shorter one of the two.
    Raises ArgumentError for another dtype or shape.
    """
    values = {**({} if labels is None else {"label": labels}), **(fields or {})}
    of_masks = {name: _array(value) for name, value in by_field(masks).items()}
    return ArraySource(_array(images), values, optional_names(classes), of_masks, ignore)


def _array(value: Any) -> Array:
    """As a numpy array, without a copy if possible; tensors are moved to the CPU."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    try:
        return np.asanyarray(value)
    except ValueError:  # numpy's own sentence does not say which argument
        raise ArgumentError(
            "expected one array, found images or values of several shapes: to pack a list of images, give a list of "
            "(image, label) pairs"
        ) from None


class ArraySource(IndexedSource):
    def __init__(
        self,
        images: Array,
        fields: Mapping[str, Any],
        classes: tuple[str, ...],
        masks: Mapping[str, Array] | None = None,
        ignore: int | None = None,
    ) -> None:
        if images.ndim == 3:
            images = images[..., None]
        if images.ndim != 4:
            raise ArgumentError(f"images: expected shape (N, H, W, C) or (N, C, H, W), found {images.shape}")
        if 0 in images.shape[1:]:
            raise ArgumentError(f"images: expected pixels, found shape {images.shape}")
        self._planar = layout_of(images.shape[1], images.shape[3]) == "CHW"
        self._images = images
        self.values = value_spec("images", images.dtype, images.shape[1 if self._planar else 3])
        self.keeps_values = True
        self._fields = {name: self._checked(name, _array(value)) for name, value in fields.items()}
        self.classes = classes
        self.image_size = (images.shape[2], images.shape[3]) if self._planar else (images.shape[1], images.shape[2])
        self.batch = max(1, BATCH_BYTES // int(np.prod(images.shape[1:])))
        self.description = f"arrays of shape {images.shape}"
        self._mask_arrays = {name: mask_array(name, values, len(images)) for name, values in (masks or {}).items()}
        self._masks = {
            name: FieldSpec(values.dtype, role=MASK, ignore=checked_ignore(ignore, values.dtype))
            for name, values in self._mask_arrays.items()
        }
        for name, values in self._mask_arrays.items():
            if name in self._fields:
                raise ArgumentError(f"masks: {name!r} is a field already: give the masks another name")
            if values.shape[1:] != self.image_size:
                raise ArgumentError(f"masks: {name!r}: expected masks of {self.image_size}, found {values.shape[1:]}")

    def _checked(self, name: str, values: Array) -> Array:
        check_field_name(name, "fields")
        if values.shape[:1] != self._images.shape[:1]:
            raise ArgumentError(
                f"{name}: expected {len(self._images)} values, one per image, found shape {values.shape}"
            )
        if values.dtype.kind not in "biufcSU" or values.dtype.itemsize == 0:
            raise ArgumentError(f"{name}: expected numbers or strings of a fixed size, found {values.dtype}")
        if name == "label" and values.ndim == 1:
            if values.dtype.kind not in "biu":
                raise ArgumentError(
                    f"label: expected integers, found {values.dtype}; numbers to predict are a field: "
                    "sources.arrays(images, fields={'target': values}), and Loader(..., fields=('target',))"
                )
            values = checked_labels(values, "label")
        return values

    @property
    def fields(self) -> dict[str, FieldSpec]:
        return {k: FieldSpec(v.dtype.newbyteorder("<"), v.shape[1:]) for k, v in self._fields.items()}

    @property
    def masks(self) -> dict[str, FieldSpec]:
        return self._masks

    @property
    def count(self) -> int:
        return len(self._images)

    def take(self, indices: Indices) -> SourceBatch:
        """These samples; consecutive images are views, without a copy."""
        together = len(indices) > 0 and indices[-1] - indices[0] == len(indices) - 1 and (np.diff(indices) == 1).all()
        images = self._images[indices[0] : indices[-1] + 1] if together else self._images[indices]
        if self._planar:
            images = images.transpose(0, 2, 3, 1)
        fields = {name: values[indices] for name, values in self._fields.items()}
        masks: dict[str, list[Item]] = {name: list(values[indices]) for name, values in self._mask_arrays.items()}
        return SourceBatch(list(images), [f"#{i}" for i in indices.tolist()], fields, masks)

    def fingerprint(self) -> str:
        """Of all pixels and fields: hashing takes the time of reading them, which is less than a pack's."""
        from largeds_native import _C

        digest = hashlib.sha256(repr((self._images.shape, self.classes)).encode())
        for low in range(0, len(self._images), self.batch):
            images = np.ascontiguousarray(self._images[low : low + self.batch])
            digest.update(_C.hash_rows(images.data, images[0].nbytes, usable_threads()).tobytes())
        for name, values in sorted([*self._fields.items(), *self._mask_arrays.items()]):
            digest.update(f"{name} {values.dtype.str} {values.shape}".encode())
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()
