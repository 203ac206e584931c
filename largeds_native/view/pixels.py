"""Rows of a store as pictures for people: any layout, any dtype, normalised or not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from largeds_native.store.display import visible
from largeds_native.store.npy import Array


def picture_of(
    row: Array, layout: str, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> Image.Image:
    """One image, (C, H, W) or (H, W, C) with 1 or 3 channels, as Pillow's "L" or "RGB"; see `visible`."""
    return Image.fromarray(np.ascontiguousarray(visible(row, layout, mean, std)))


def fitted(picture: Image.Image, width: int, height: int) -> Image.Image:
    """As large as fits: small pictures by whole factors, so that each pixel is seen; large ones smoothly."""
    scale = min(width / picture.width, height / picture.height)
    if scale >= 1:
        factor = int(scale)
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.resize(size, Image.Resampling.LANCZOS)
