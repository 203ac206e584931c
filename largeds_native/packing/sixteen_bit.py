"""Grey images of more than 8 bits a pixel: 16-bit PNG and TIFF, and TIFF of floats."""

from __future__ import annotations

import numpy as np

from largeds_native._internal.arrays import Array
from largeds_native.errors import DecodeError

REASON = "sixteen_bit"


class SixteenBitError(DecodeError):
    """Nothing says how the values become 8 bits, or they don't fit what was said."""


def is_wide(mode: str) -> bool:
    """Whether Pillow's images of this mode have more than 8 bits a channel."""
    return mode == "F" or mode == "I" or mode.startswith("I;")


def to_eight_bits(values: Array, how: str | None) -> Array:
    """uint8 of the same shape. "scale": the high byte of 16 bits, as Pillow takes it of colours; floats in [0, 1] times
    255. "clip": 0 to 255 as they are, more is 255, as Pillow's convert does."""
    if how is None:
        raise SixteenBitError(
            f"{_bits(values)} a pixel, and nothing says how they become 8: sixteen_bit='scale' takes the high byte "
            "(floats: times 255), 'clip' keeps 0 to 255 and makes the rest white; a pack with dtype='uint16' keeps all"
        )
    if how == "clip":
        return np.clip(values, 0, 255).astype(np.uint8)
    low, high = values.min(), values.max()
    top = 1 if values.dtype.kind == "f" else 65535
    if not (low >= 0 and high <= top):  # NaN is neither
        raise SixteenBitError(f"sixteen_bit='scale': expected values from 0 to {top}, found {low} to {high}")
    return np.rint(values * 255).astype(np.uint8) if top == 1 else (values >> 8).astype(np.uint8)


def _bits(values: Array) -> str:
    return "floats" if values.dtype.kind == "f" else "16 bits" if values.dtype.itemsize == 2 else "32 bits"
