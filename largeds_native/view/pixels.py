"""Resizes pictures for display, and draws masks over them."""

from __future__ import annotations

import colorsys
from functools import cache

import numpy as np
from PIL import Image

from largeds_native._internal.arrays import Array

GOLDEN = 0.618034  # of a turn: hues of following numbers are far apart


def fitted(picture: Image.Image, width: int, height: int) -> Image.Image:
    """Resized to fit: small pictures by whole factors, so that each pixel is visible; large ones smoothly."""
    scale = min(width / picture.width, height / picture.height)
    if scale >= 1:
        factor = int(scale)
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.resize(size, Image.Resampling.LANCZOS)


@cache
def _colours() -> Array:
    """A colour for each number of a mask, modulo 256; 0 has none."""
    hues = [(i * GOLDEN) % 1 for i in range(256)]
    return np.array([colorsys.hsv_to_rgb(hue, 0.85, 1.0 - 0.3 * (i % 3) / 2) for i, hue in enumerate(hues)]) * 255


def overlay(picture: Image.Image, mask: Array, ignore: int | None) -> Image.Image:
    """The picture in grey, with the numbers of its mask (H, W) in colours over it: 0 has none, `ignore` is black."""
    grey = np.asarray(picture.convert("L"), np.float32)[..., np.newaxis]
    mixed = 0.45 * grey + 0.55 * _colours()[mask.astype(np.int64) % 256]
    mixed = np.where((mask == 0)[..., np.newaxis], grey, mixed)
    if ignore is not None:
        mixed = np.where((mask == ignore)[..., np.newaxis], 0.3 * grey, mixed)
    return Image.fromarray(mixed.astype(np.uint8))
