"""Image files to one uint8 tensor, in threads: `decode_batch`."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from largeds_native import _C
from largeds_native._internal.machine import usable_threads
from largeds_native.errors import ArgumentError, DecodeError

Source: TypeAlias = "str | os.PathLike[str] | bytes"
Size: TypeAlias = "int | tuple[int, int] | None"
MAX_PIXELS = 178_956_970  # of one image; where Pillow raises DecompressionBombError


@dataclass(frozen=True)
class DecodeFailure:
    """An image that `decode_batch(..., on_error="skip")` left out."""

    index: int  # in `sources`
    source: str  # its path, or "<n bytes>"
    reason: str  # "corrupt", "truncated", "too_large", "unsupported", "shape" or "io"
    message: str

    def __str__(self) -> str:
        return f"image {self.index} ({self.source}): {self.message}"


@overload
def decode_batch(
    sources: Sequence[Source],
    *,
    resize: Size = 256,
    crop: Size = 224,
    interpolation: str = "bilinear",
    antialias: bool = True,
    decode: Literal["exact", "scaled"] = "exact",
    mode: Literal["RGB", "L"] = "RGB",
    layout: Literal["CHW", "HWC"] = "CHW",
    exif_orientation: bool = True,
    truncated: Literal["error", "keep"] = "error",
    max_pixels: int = MAX_PIXELS,
    threads: int | None = None,
    on_error: Literal["raise"] = "raise",
) -> torch.Tensor: ...


@overload
def decode_batch(
    sources: Sequence[Source],
    *,
    resize: Size = 256,
    crop: Size = 224,
    interpolation: str = "bilinear",
    antialias: bool = True,
    decode: Literal["exact", "scaled"] = "exact",
    mode: Literal["RGB", "L"] = "RGB",
    layout: Literal["CHW", "HWC"] = "CHW",
    exif_orientation: bool = True,
    truncated: Literal["error", "keep"] = "error",
    max_pixels: int = MAX_PIXELS,
    threads: int | None = None,
    on_error: Literal["skip"],
) -> tuple[torch.Tensor, list[DecodeFailure]]: ...


def decode_batch(
    sources: Sequence[Source],
    *,
    resize: Size = 256,
    crop: Size = 224,
    interpolation: str = "bilinear",
    antialias: bool = True,
    decode: Literal["exact", "scaled"] = "exact",
    mode: Literal["RGB", "L"] = "RGB",
    layout: Literal["CHW", "HWC"] = "CHW",
    exif_orientation: bool = True,
    truncated: Literal["error", "keep"] = "error",
    max_pixels: int = MAX_PIXELS,
    threads: int | None = None,
    on_error: Literal["raise", "skip"] = "raise",
) -> torch.Tensor | tuple[torch.Tensor, list[DecodeFailure]]:
    """Reads, decodes, resizes and crops images.

    Pixels equal, bit for bit, those of Pillow (`Image.open`, `ImageOps.exif_transpose`, `convert(mode)`) followed by
    torchvision's `resize` and `center_crop`. JPEG, PNG and WebP are told by their first bytes and decoded in threads
    without the GIL; every other format that Pillow opens is decoded by Pillow, one after the other. Alpha is dropped;
    of an animation the first frame counts.

    Args:
        sources: paths, or the bytes of files.
        resize: `int` is the shorter side, `(height, width)` is exact, `None` keeps the size.
        crop: centre crop, `int` for a square or `(height, width)`; zeros where the image is smaller; `None` for none.
        interpolation: "nearest", "box", "bilinear", "bicubic" or "lanczos".
        antialias: False uses the filter unscaled when the image becomes smaller.
        decode: "scaled" lets libjpeg leave out detail that the resize would take away, as Pillow's `draft` does: faster
            for large photographs, not bit-exact.
        mode: "RGB" (3 channels) or "L" (1 channel).
        layout: "CHW" or "HWC".
        exif_orientation: turn images as their EXIF (or XMP) orientation says.
        truncated: a JPEG that ends early is an error, or ("keep") is filled up with gray by libjpeg.
        max_pixels: larger images fail before their pixels are allocated.
        threads: default: the processors that this process may use.
        on_error: "raise" stops with `DecodeError` at the first failed image; "skip" leaves failed images out.

    Returns:
        uint8 tensor (N, C, H, W), or (N, H, W, C) for layout "HWC". With `on_error="skip"`: that of the good images in
        order, and a list of `DecodeFailure`. Without a crop or an exact resize the first good image tells H and W, and
        images that come out otherwise fail with reason "shape".

    Raises:
        ArgumentError: an argument makes no sense, or `sources` is empty and no size follows from the arguments.
        DecodeError: an image failed and `on_error` is "raise"; the message names it.
    """
    _check_choice("decode", decode, ("exact", "scaled"))
    _check_choice("mode", mode, ("RGB", "L"))
    _check_choice("layout", layout, ("CHW", "HWC"))
    _check_choice("truncated", truncated, ("error", "keep"))
    _check_choice("on_error", on_error, ("raise", "skip"))
    if threads is not None and threads < 1:
        raise ArgumentError(f"threads must be at least 1, found {threads}")
    items = [_as_source(source) for source in sources]
    resize_h, resize_w = _pair("resize", resize, square=False)
    crop_h, crop_w = _pair("crop", crop, square=True)

    def spec(out_h: int, out_w: int) -> _C.RowSpec:
        return _C.RowSpec(
            resize_h=resize_h,
            resize_w=resize_w,
            crop_h=crop_h,
            crop_w=crop_w,
            out_h=out_h,
            out_w=out_w,
            planar=layout == "CHW",
            filter=interpolation,
            antialias=antialias,
            scaled=decode == "scaled",
            channels=len(mode),
            exif_orientation=exif_orientation,
            keep_truncated=truncated == "keep",
            max_pixels=max_pixels,
        )

    if crop_h:
        height, width = crop_h, crop_w
    elif resize_w:
        height, width = resize_h, resize_w
    else:
        height, width = _first_size(items, spec(1, 1), exif_orientation)
    rows = spec(height, width)
    out = np.empty((len(items), rows.row_bytes), np.uint8)
    results = _C.decode_to_rows(items, out, rows, threads or usable_threads())

    failures = []
    for index, (status, message, *_) in enumerate(results):
        if status == "unsupported":
            status, message = _fall_back(items[index], out[index], rows, mode, exif_orientation, max_pixels)
        if status != "ok":
            failure = DecodeFailure(index, _name(items[index]), status, message)
            if on_error == "raise":
                raise DecodeError(str(failure))
            failures.append(failure)
    if failures:
        out = np.delete(out, [failure.index for failure in failures], axis=0)
    shape = (len(mode), height, width) if layout == "CHW" else (height, width, len(mode))
    images = torch.from_numpy(out.reshape(len(out), *shape))
    return images if on_error == "raise" else (images, failures)


def decode_with_pillow(
    source: Source, *, mode: str = "RGB", exif_orientation: bool = True, max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """(height, width, channels) pixels of any file that Pillow opens; `DecodeError` when it does not.

    The way of formats that the core does not decode. `failure_reason` turns the error into a reason word.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata, and of sizes that max_pixels allows
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
                if image.width * image.height > max_pixels:
                    raise Image.DecompressionBombError(
                        f"{image.width} x {image.height} pixels, more than max_pixels = {max_pixels}"
                    )
                turned = ImageOps.exif_transpose(image) if exif_orientation else image
                pixels = np.array(turned.convert(mode))
    except Exception as error:  # Pillow's plugins raise whatever they meet
        raise DecodeError(f"Pillow: {error}") from error
    return pixels.reshape(pixels.shape[0], pixels.shape[1], len(mode))


def failure_reason(error: DecodeError) -> str:
    """The reason word of an error of `decode_with_pillow`."""
    cause = error.__cause__
    if isinstance(cause, UnidentifiedImageError):
        return "unsupported"
    if isinstance(cause, Image.DecompressionBombError):
        return "too_large"
    if isinstance(cause, OSError) and cause.errno is not None:
        return "io"
    return "truncated" if "truncated" in str(cause).lower() else "corrupt"


def _fall_back(
    source: Source, out: NDArray[np.uint8], spec: _C.RowSpec, mode: str, exif_orientation: bool, max_pixels: int
) -> tuple[str, str]:
    try:
        pixels = decode_with_pillow(source, mode=mode, exif_orientation=exif_orientation, max_pixels=max_pixels)
    except DecodeError as error:
        return failure_reason(error), str(error)
    try:
        _C.pixels_to_row(pixels, out, spec)
    except DecodeError as error:
        return "shape", str(error)
    return "ok", ""


def _first_size(sources: list[bytes | str], spec: _C.RowSpec, exif_orientation: bool) -> tuple[int, int]:
    """Height and width that the first readable image ends with."""
    for source in sources:
        try:
            if isinstance(source, str):
                with open(source, "rb") as file:
                    data = file.read()
            else:
                data = source
            try:
                _, width, height, orientation = _C.image_info(data)
                if not exif_orientation and orientation >= 5:
                    width, height = height, width
            except DecodeError:
                height, width, _ = decode_with_pillow(data, exif_orientation=exif_orientation).shape
        except (OSError, DecodeError):
            continue
        return spec.output_size(width, height)
    if not sources:
        raise ArgumentError("no sources, and neither crop nor resize=(height, width) says how large images are")
    return 1, 1  # none is readable: each is reported below


def _as_source(source: Source) -> bytes | str:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    if isinstance(source, (str, os.PathLike)):
        return os.fsdecode(source)
    raise ArgumentError(f"a source must be a path or bytes, found {type(source).__name__}")


def _name(source: bytes | str) -> str:
    return source if isinstance(source, str) else f"<{len(source)} bytes>"


def _pair(name: str, size: Size, *, square: bool) -> tuple[int, int]:
    """(height, width) with 0 for "not given"."""
    if size is None:
        return 0, 0
    if isinstance(size, int) and not isinstance(size, bool):
        pair = (size, size if square else 0)
    elif isinstance(size, (tuple, list)) and len(size) == 2 and all(isinstance(side, int) for side in size):
        pair = (size[0], size[1])
    else:
        raise ArgumentError(f"{name} must be an int, (height, width) or None, found {size!r}")
    if pair[0] < 1 or (pair[1] < 1 and (square or not isinstance(size, int))):
        raise ArgumentError(f"{name} must be at least 1, found {size!r}")
    return pair


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ArgumentError(f"{name} must be one of {', '.join(map(repr, choices))}, found {value!r}")
