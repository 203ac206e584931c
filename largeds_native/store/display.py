"""Shows rows as pictures, and a store as HTML for notebooks."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from largeds_native._internal.arrays import Array

if TYPE_CHECKING:
    from PIL import Image


SHOWN = 8  # images in a notebook
SIDE = 96  # pixels of the longer side there
FIGURE = '<figure style="margin:0 4px 4px 0;text-align:center"><img alt="row {row}" src="{source}"/>'


def visible(image: Array, layout: str, mean: Sequence[float] | None, std: Sequence[float] | None) -> Array:
    """One image, (C, H, W) or (H, W, C), as uint8 of shape (H, W, 3), or (H, W) for one channel. Of more than three
    channels, the first three are shown, and of two the first.

    Floats become x * std + mean if these are given; otherwise, 16-bit integers, and floats outside of [0, 1], are
    scaled so that the smallest value of the image is black and its largest is white. NaN and infinity are black.
    """
    image = np.moveaxis(image, 0, -1) if layout == "CHW" else np.asarray(image)
    image = image[..., : 3 if image.shape[-1] >= 3 else 1]
    if image.dtype != np.uint8:
        finite = np.isfinite(image)
        values = np.where(finite, image, 0).astype(np.float32)
        if mean is not None and std is not None:
            shown = image.shape[-1]
            values = values * np.asarray(std[:shown], np.float32) + np.asarray(mean[:shown], np.float32)
        elif values.size and (image.dtype.kind in "iu" or values.min() < 0 or values.max() > 1):
            low, high = float(values.min()), float(values.max())
            values = (values - low) / max(high - low, 1e-12)
        image = np.rint(np.where(finite, values, 0) * 255).clip(0, 255).astype(np.uint8)
    return image[..., 0] if image.shape[-1] == 1 else image


def rows_to_show(rows: int) -> list[int]:
    """The numbers of a few rows, evenly spaced over `rows` rows."""
    return sorted({i * (rows - 1) // (SHOWN - 1) for i in range(SHOWN)}) if rows else []


def caption(label: Any, classes: Sequence[str]) -> str:
    """A label as text: the name of its class, if there is one."""
    if label is None:
        return ""
    if np.ndim(label) == 0 and np.asarray(label).dtype.kind in "iu" and 0 <= int(label) < len(classes):
        return classes[int(label)]
    text = str(np.asarray(label).tolist())
    return text if len(text) <= 24 else text[:21] + "..."


def as_html(title: str, facts: Sequence[str], figures: Sequence[tuple[int, Image.Image, str]]) -> str:
    """An HTML fragment with the facts and with figures of (row, picture, caption)."""
    shown = []
    for row, picture, text in figures:
        picture.thumbnail((SIDE, SIDE))
        image = FIGURE.format(row=row, source=data_uri(picture))
        shown.append(f"{image}<figcaption>{html.escape(text)}</figcaption></figure>")
    sheet = f'<div style="display:flex;flex-wrap:wrap">{"".join(shown)}</div>'
    return f"<div><p><b>{html.escape(title)}</b><br/>{html.escape('; '.join(facts))}</p>{sheet}</div>"


def picture_of(
    image: Array, layout: str, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> Image.Image:
    """One image, (C, H, W) or (H, W, C) with 1 or 3 channels, as Pillow's "L" or "RGB"; see `visible`."""
    from PIL import Image

    return Image.fromarray(np.ascontiguousarray(visible(image, layout, mean, std)))


def data_uri(picture: Image.Image, kind: str = "png", **options: Any) -> str:
    """The picture as a data: URI; kind: "png" or "jpeg"."""
    file = io.BytesIO()
    picture.save(file, kind.upper(), **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
