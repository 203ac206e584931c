"""Packs the masks and other pictures of a batch: into rows of raw numbers, or of PNG files."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from largeds_native._internal.arrays import Array, FieldSpec, ValueSpec
from largeds_native.packing import pillow
from largeds_native.packing.engine import Engine
from largeds_native.packing.jpeg_engine import JpegEngine
from largeds_native.packing.kept_values import COLOURS, as_values
from largeds_native.packing.options import PackOptions
from largeds_native.packing.pillow import PixelsError
from largeds_native.packing.value_engine import ValueEngine
from largeds_native.sources.base import read_bytes

if TYPE_CHECKING:
    from largeds_native import _C

NUMBERS = ("1", "L", "P", "I", "I;16", "I;16L", "I;16B", "I;16N")  # modes of Pillow with one number a pixel
LOSSY = ("JPEG", "WEBP", "JPEG2000", "AVIF", "HEIF")


def make_picture_engine(
    options: PackOptions, spec: FieldSpec, size: tuple[int, int], threads: int, folder: Path | None = None
) -> Engine:
    """`size`: (height, width) of the raw rows of images. `folder`: of the store, if rows are written."""
    if spec.is_mask:
        jpeg = options.codec == "jpeg"
        return PngMaskEngine(options, spec, threads, folder) if jpeg else RawMaskEngine(options, spec, size, threads)
    if options.codec == "jpeg":
        return PngPictureEngine(options, spec.values, threads, folder)
    if spec.dtype == np.uint8 and spec.values.channels in COLOURS:
        return Engine(_of_colours(options, spec.values.channels), size, threads)
    return ValueEngine(replace(options, layout="CHW"), spec.values, size, threads)


def _of_colours(options: PackOptions, channels: int) -> PackOptions:
    """For 8-bit pictures, in colour or grey, which are made as images are."""
    transform = replace(options.transform, mode="RGB" if channels == 3 else "L")
    return replace(options, transform=transform, dtype="uint8", layout="CHW", mean=None, std=None, values=None)


class RawMaskEngine(Engine):
    """The masks get the geometry of their images, with the nearest filter."""

    def __init__(self, options: PackOptions, spec: FieldSpec, size: tuple[int, int], threads: int) -> None:
        self._spec = spec
        super().__init__(options, size, threads)

    def _make_packer(self, size: tuple[int, int]) -> _C.Packer:
        from largeds_native import _C

        return _C.Packer(self._options.transform.number_core(size, self._spec.dtype.itemsize), self._threads)

    def _from_array(self, item: Array) -> Array:
        return as_bytes(item, self._spec.dtype)

    def _decode_one(self, item: Any) -> Array:
        return as_bytes(decoded(item, self._options.transform.max_pixels), self._spec.dtype)


class PngMaskEngine(JpegEngine):
    """Masks keep their size, or get that of their shrunk images."""

    def __init__(self, options: PackOptions, spec: FieldSpec, threads: int, folder: Path | None) -> None:
        self._spec = spec
        super().__init__(options, threads, folder)

    def _make_packer(self, size: tuple[int, int]) -> _C.Packer:
        from largeds_native import _C

        return _C.Packer(
            self._options.transform.number_core((1, 1), self._spec.dtype.itemsize), self._threads, png=True
        )

    _from_array = RawMaskEngine._from_array
    _decode_one = RawMaskEngine._decode_one


class PngPictureEngine(JpegEngine):
    """Pictures of one channel of 8 or 16 bits, which keep their size, or get that of their shrunk images."""

    def __init__(self, options: PackOptions, values: ValueSpec, threads: int, folder: Path | None) -> None:
        self._values = values
        super().__init__(options, threads, folder)

    def _make_packer(self, size: tuple[int, int]) -> _C.Packer:
        from largeds_native import _C

        transform, dtype = self._options.transform, self._values.dtype
        spec = transform.number_core((1, 1), dtype.itemsize, transform.interpolation)
        return _C.Packer(spec, self._threads, png=True, values=dtype.name)

    def _from_array(self, item: Array) -> Array:
        return as_values(item, self._values, self._options.transform.max_pixels)

    def _decode_one(self, item: Any) -> Array:
        transform = self._options.transform
        if self._values.dtype == np.uint8:
            return pillow.decode(item, replace(transform, mode="L"))
        return self._from_array(pillow.values(item, transform))


def as_bytes(numbers: Array, dtype: np.dtype[Any]) -> Array:
    """Integers (H, W) or (H, W, 1) as the bytes of `dtype`, (H, W, bytes). PixelsError if some do not fit."""
    if numbers.ndim == 3 and numbers.shape[2] == 1:
        numbers = numbers[..., 0]
    if numbers.ndim != 2 or numbers.dtype.kind not in "biu" or 0 in numbers.shape:
        raise PixelsError(
            "unsupported",
            f"expected a mask of integers (height, width), found {numbers.dtype} of shape {numbers.shape}",
        )
    if numbers.dtype != dtype:
        limits, low, high = np.iinfo(dtype), int(numbers.min()), int(numbers.max())
        if low < limits.min or high > limits.max:
            raise PixelsError(
                "unsupported", f"expected numbers of {dtype}, as the first masks have, found {low} to {high}"
            )
    return np.ascontiguousarray(numbers, dtype.newbyteorder("<"))[..., np.newaxis].view(np.uint8)


def decoded(item: Any, max_pixels: int) -> Array:
    """The numbers of a mask in a file that the core does not read: (H, W) integers."""
    label = "mask" if isinstance(item, bytes) else item if isinstance(item, str) else item[0]
    try:
        with Image.open(io.BytesIO(read_bytes(item))) as image:
            if image.width * image.height > max_pixels:
                size = f"{image.width} x {image.height} pixels"
                raise PixelsError("too_large", f"{label}: {size}, more than max_pixels = {max_pixels}")
            if image.format in LOSSY:
                raise PixelsError(
                    "unsupported",
                    f"{label}: {image.format} changes the numbers of a mask: expected a PNG or TIFF file",
                )
            if image.mode not in NUMBERS:
                raise PixelsError(
                    "unsupported",
                    f"{label}: expected a mask with one number a pixel, found colours (Pillow's mode {image.mode})",
                )
            numbers = np.asarray(image)
    except PixelsError:
        raise
    except OSError as error:
        reason = "io" if error.errno else "corrupt"
        raise PixelsError(reason, f"{label}: {error.strerror or 'not an image that Pillow reads'}") from None
    except (ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PixelsError("corrupt", f"{label}: {error}") from None
    return numbers.astype(np.uint8) if numbers.dtype == bool else numbers
