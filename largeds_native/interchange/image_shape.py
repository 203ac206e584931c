"""Finds the layout of images from the shape of an array."""

from __future__ import annotations

from typing import Any

import numpy as np

from largeds_native._internal.arrays import IMAGE_DTYPES, MAX_CHANNELS, layout_of
from largeds_native.errors import ArgumentError
from largeds_native.store.metadata import Metadata


def shape_metadata(shape: tuple[int, ...], dtype: np.dtype[Any], where: str, layout: str | None = None) -> Metadata:
    """Metadata with layout and channels from a shape; (N, H, W) has one channel, (N, V, ...) has V variants per image.

    Without `layout`, see `layout_of`. `where` begins the error messages."""
    if dtype.name not in (*IMAGE_DTYPES, "float64"):
        raise ArgumentError(f"{where}: expected {', '.join(IMAGE_DTYPES)} or float64, found {dtype}")
    if len(shape) not in (3, 4, 5) or 0 in shape[1:]:
        raise ArgumentError(f"{where}: expected shape (N, C, H, W), (N, H, W, C) or (N, H, W), found {shape}")
    if len(shape) == 3:
        return Metadata(shape[0], (1, shape[1], shape[2]), dtype, "CHW")
    c, h, w = (int(n) for n in shape[-3:])
    found = layout or layout_of(c, w)
    if found not in ("CHW", "HWC") or (c if found == "CHW" else w) > MAX_CHANNELS:
        told = "" if layout is None else f" and layout {layout!r}"
        raise ArgumentError(f"{where}: expected an axis of 1 to {MAX_CHANNELS} channels, found shape {shape}{told}")
    return Metadata(shape[0], (c, h, w), dtype, found, variants=shape[1] if len(shape) == 5 else 1)
