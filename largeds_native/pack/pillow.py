"""Formats that the core does not decode: Pillow reads them to pixels, which the core then makes a row of."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from largeds_native.errors import DecodeError
from largeds_native.pack.options import Options
from largeds_native.store.npy import Array


class PillowError(DecodeError):
    """Carries the word for the reason."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def decode(item: Any, options: Options) -> Array:
    """Pixels (H, W, C) of an encoded image: a path, bytes, or a part of a file (path, offset, length)."""
    label = "image" if isinstance(item, bytes) else item if isinstance(item, str) else item[0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of what we cap by max_pixels, and of odd metadata
            with Image.open(io.BytesIO(read_bytes(item))) as image:
                if image.width * image.height > options.max_pixels:
                    words = f"{image.width} x {image.height} pixels, more than max_pixels={options.max_pixels}"
                    raise PillowError("too_large", f"{label}: {words}")
                turned = ImageOps.exif_transpose(image) if options.exif_orientation else image
                return _pixels(turned, options)
    except UnidentifiedImageError:
        raise PillowError("unsupported", f"{label}: no image of a format that the core or Pillow knows") from None
    except Image.DecompressionBombError as error:
        raise PillowError("too_large", f"{label}: {error}") from None
    except PillowError:
        raise
    except OSError as error:
        reason = "io" if error.errno else "truncated" if "truncated" in str(error) else "corrupt"
        raise PillowError(reason, f"{label}: {error.strerror or error}") from None
    except Exception as error:  # Pillow's plugins let all kinds of errors out of damaged files
        raise PillowError("corrupt", f"{label}: {type(error).__name__}: {error}") from None


def read_bytes(item: Any) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        return Path(item).read_bytes()
    path, offset, length = item
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(length)


def _pixels(image: Image.Image, options: Options) -> Array:
    pixels = np.asarray(image.convert(options.mode))
    return np.ascontiguousarray(pixels.reshape(image.height, image.width, options.channels))


def to_mode(pixels: Array, options: Options) -> Array:
    """uint8 (H, W, 1 or 3) -> contiguous (H, W, C) with the mode's channels, as Pillow converts."""
    if pixels.shape[2] != options.channels:
        pixels = _pixels(
            Image.fromarray(np.ascontiguousarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)), options
        )
    if pixels.shape[0] * pixels.shape[1] > options.max_pixels:
        words = f"{pixels.shape[1]} x {pixels.shape[0]} pixels, more than max_pixels={options.max_pixels}"
        raise PillowError("too_large", words)
    return np.ascontiguousarray(pixels)
