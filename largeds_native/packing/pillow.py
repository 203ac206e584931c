"""Images that the core does not decode: formats of Pillow, and arrays of pixels from a source."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from largeds_native._internal.arrays import Array
from largeds_native.errors import DecodeError
from largeds_native.packing.decoding import decode_with_pillow, failure_reason, values_with_pillow
from largeds_native.packing.sixteen_bit import REASON, SixteenBitError, to_eight_bits
from largeds_native.sources.base import read_bytes
from largeds_native.transform import ImageTransform

_ADDRESS = re.compile(r" ?<[^<>]* at 0x[0-9a-f]+>")  # object addresses in Pillow's messages differ in every process


class PixelsError(DecodeError):
    """`reason` is one of the reasons in reports, such as "corrupt"."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def decode(item: Any, transform: ImageTransform) -> Array:
    """Pixels (H, W, C) of an encoded image: a path, bytes, or a part of a file (path, offset, length)."""
    return _decoded(item, transform, decode_with_pillow)


def values(item: Any, transform: ImageTransform) -> Array:
    """The values (H, W, 1) of an encoded grey image of 16 bits."""
    return _decoded(item, transform, values_with_pillow)


def _decoded(item: Any, transform: ImageTransform, decoder: Callable[[bytes, ImageTransform], Array]) -> Array:
    label = "image" if isinstance(item, bytes) else item if isinstance(item, str) else item[0]
    try:
        return decoder(read_bytes(item), transform)
    except DecodeError as error:
        reason = failure_reason(error)
        message = _ADDRESS.sub("", str(error))
        raise PixelsError(reason, f"{label}: {message}") from None
    except OSError as error:
        raise PixelsError("io", f"{label}: {error.strerror}") from None


def to_mode(pixels: Array, transform: ImageTransform) -> Array:
    """(H, W, 1 or 3) -> uint8 (H, W, C) with the channels of the mode, converted as by Pillow."""
    height, width, channels = pixels.shape
    if height * width > transform.max_pixels:
        raise PixelsError("too_large", f"{width} x {height} pixels, more than max_pixels = {transform.max_pixels}")
    if pixels.dtype.kind == "f":
        pixels = _from_floats(pixels)
    elif pixels.dtype != np.uint8:
        try:
            pixels = to_eight_bits(pixels, transform.sixteen_bit)
        except SixteenBitError as error:
            raise PixelsError(REASON, str(error)) from None
    if channels != transform.channels:
        image = Image.fromarray(np.ascontiguousarray(pixels.squeeze(2) if channels == 1 else pixels))
        return np.asarray(image.convert(transform.mode)).reshape(height, width, transform.channels)
    interleaved = pixels.strides[1:] == (channels, 1) or (channels == 1 and pixels.strides[1] == 1)
    return pixels if interleaved or pixels.strides[1] == 1 else np.ascontiguousarray(pixels)


def _from_floats(pixels: Array) -> Array:
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= 1):  # NaN is neither
        raise PixelsError(
            "unsupported",
            f"expected floats from 0 to 1, found {low:.6g} to {high:.6g}: dtype='float32', without mean and std, keeps "
            "them as they are",
        )
    eight: Array = np.rint(pixels * 255).astype(np.uint8)
    return eight
