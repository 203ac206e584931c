"""`decode_batch`: decodes image files to one uint8 tensor, in threads."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from largeds_native import _C
from largeds_native._internal.limits import MAX_PIXELS
from largeds_native._internal.machine import usable_threads
from largeds_native.errors import ArgumentError, DecodeError
from largeds_native.packing.sixteen_bit import REASON, SixteenBitError, is_wide, to_eight_bits
from largeds_native.packing.unknown_format import HEAD, describe_unknown
from largeds_native.transform import ImageTransform
from largeds_native.transform.image_transform import CROP, RESIZE, Size, choice, integer

EncodedImage: TypeAlias = "str | os.PathLike[str] | bytes"


@dataclass(frozen=True)
class DecodeFailure:
    """An image that `decode_batch(..., on_error="skip")` left out.

    index, source: its number in `sources`, and its path, or "<n bytes>".
    reason: "corrupt", "truncated", "too_large", "unsupported", "sixteen_bit", "shape" or "io"; see docs/errors.md.
    message: what is wrong, in words.
    """

    index: int
    source: str
    reason: str
    message: str

    def __str__(self) -> str:
        return f"image {self.index} ({self.source}): {self.message}"


@overload
def decode_batch(
    sources: Sequence[EncodedImage],
    *,
    resize: Size = RESIZE,
    crop: Size = CROP,
    interpolation: str = "bilinear",
    antialias: bool = True,
    decode: Literal["exact", "scaled"] = "exact",
    mode: Literal["RGB", "L"] = "RGB",
    layout: Literal["CHW", "HWC"] = "CHW",
    exif_orientation: bool = True,
    truncated: Literal["error", "keep"] = "error",
    max_pixels: int = MAX_PIXELS,
    sixteen_bit: Literal["scale", "clip"] | None = None,
    threads: int | None = None,
    on_error: Literal["raise"] = "raise",
) -> torch.Tensor: ...


@overload
def decode_batch(
    sources: Sequence[EncodedImage],
    *,
    resize: Size = RESIZE,
    crop: Size = CROP,
    interpolation: str = "bilinear",
    antialias: bool = True,
    decode: Literal["exact", "scaled"] = "exact",
    mode: Literal["RGB", "L"] = "RGB",
    layout: Literal["CHW", "HWC"] = "CHW",
    exif_orientation: bool = True,
    truncated: Literal["error", "keep"] = "error",
    max_pixels: int = MAX_PIXELS,
    sixteen_bit: Literal["scale", "clip"] | None = None,
    threads: int | None = None,
    on_error: Literal["skip"],
) -> tuple[torch.Tensor, list[DecodeFailure]]: ...


def decode_batch(
    sources: Sequence[EncodedImage],
    *,
    resize: Size = RESIZE,
    crop: Size = CROP,
    interpolation: str = "bilinear",
    antialias: bool = True,
    decode: Literal["exact", "scaled"] = "exact",
    mode: Literal["RGB", "L"] = "RGB",
    layout: Literal["CHW", "HWC"] = "CHW",
    exif_orientation: bool = True,
    truncated: Literal["error", "keep"] = "error",
    max_pixels: int = MAX_PIXELS,
    sixteen_bit: Literal["scale", "clip"] | None = None,
    threads: int | None = None,
    on_error: Literal["raise", "skip"] = "raise",
) -> torch.Tensor | tuple[torch.Tensor, list[DecodeFailure]]:
    """Reads, decodes, resizes and crops images to one tensor.

    Pixels equal, bit for bit, those of Pillow (`Image.open`, `ImageOps.exif_transpose`, `convert(mode)`) followed by
    torchvision's `resize` and `center_crop`. JPEG, PNG and WebP are recognised by their first bytes and decoded in
    threads without the GIL; Pillow decodes all other formats that it can open, one image after the other. Alpha is
    dropped; only the first frame of an animation is decoded. Only the part of a JPEG or PNG that the crop needs is
    decoded, so that damage behind it may go unnoticed; with crop=None, all of it is.

    Args:
        sources: paths, or contents of files as bytes.
        resize: `int` is the shorter side, `(height, width)` is exact, `None` keeps the size.
        crop: centre crop, `int` for a square or `(height, width)`; `None` for none. A smaller image fails.
            If only one of the two is given, the other follows: `resize=64` gives 64x64, `crop=192` resizes to 219.
        interpolation: "nearest", "box", "bilinear", "bicubic" or "lanczos".
        antialias: False does not widen the filter when the image becomes smaller.
        decode: "scaled" decodes JPEGs at a smaller scale, as Pillow's `draft` does: faster for large photographs, but
            not bit-exact.
        mode: "RGB" (3 channels) or "L" (1 channel).
        layout: "CHW" or "HWC".
        exif_orientation: rotate images by their EXIF (or XMP) orientation.
        truncated: a file that ends early is an "error"; with "keep", libjpeg fills a JPEG up with gray, and a PNG that
            has all its pixels is taken without its end.
        max_pixels: larger images fail before their pixels are allocated.
        sixteen_bit: how grey images of more than 8 bits a pixel (PNG, TIFF) become 8: "scale" takes the high byte
            (floats in [0, 1]: times 255), "clip" keeps 0 to 255 and makes the rest white, as Pillow's convert does.
            None: they fail.
        threads: by default all that this process may use.
        on_error: "raise" raises `DecodeError` for the first failed image; "skip" leaves failed images out.

    Returns:
        uint8 tensor (N, C, H, W), or (N, H, W, C) for layout "HWC". With `on_error="skip"`, the tensor of the good
        images in order, and a list of `DecodeFailure`. Without a crop or an exact resize, the first good image
        determines H and W, and images of another size fail with reason "shape".

    Raises:
        ArgumentError: an argument is invalid, or `sources` is empty and the arguments don't determine a size.
        DecodeError: an image failed and `on_error` is "raise"; the message names it.
    """
    transform = ImageTransform(
        resize=resize,
        crop=crop,
        interpolation=interpolation,
        antialias=antialias,
        decode=decode,
        mode=mode,
        exif_orientation=exif_orientation,
        truncated=truncated,
        max_pixels=max_pixels,
        sixteen_bit=sixteen_bit,
    )
    choice("layout", layout, ("CHW", "HWC"))
    choice("on_error", on_error, ("raise", "skip"))
    if threads is not None:
        threads = integer("threads", threads, 1, 1024)
    if isinstance(sources, (str, bytes, os.PathLike)):
        raise ArgumentError(f"sources: expected a list of paths or bytes of files, found {type(sources).__name__}")
    items = [_as_source(source) for source in sources]
    height, width = transform.fixed_size or _first_size(items, transform)
    rows = transform.core((height, width), layout)
    out = np.empty((len(items), rows.row_bytes), np.uint8)
    errors = _decode(items, out, _C.Packer(rows, threads or usable_threads()), transform)
    failures = [DecodeFailure(index, _name(items[index]), *errors[index]) for index in sorted(errors)]
    if failures and on_error == "raise":
        raise DecodeError(str(failures[0]))
    if failures:
        out = np.delete(out, [failure.index for failure in failures], axis=0)
    shape = (transform.channels, height, width) if layout == "CHW" else (height, width, transform.channels)
    images = torch.from_numpy(out.reshape(len(out), *shape))
    return images if on_error == "raise" else (images, failures)


def decode_with_pillow(source: EncodedImage, transform: ImageTransform) -> NDArray[np.uint8]:
    """Pixels (height, width, channels) of a file, decoded by Pillow and not resized; `DecodeError` if Pillow fails.

    For formats that the core does not decode. `failure_reason` gives the reason of the error.
    """

    def pixels(image: Image.Image) -> NDArray[np.uint8]:
        if is_wide(image.mode):
            image = Image.fromarray(to_eight_bits(np.asarray(image), transform.sixteen_bit))
        return np.array(image.convert(transform.mode))

    decoded = _with_pillow(source, transform, pixels)
    return decoded.reshape(decoded.shape[0], decoded.shape[1], transform.channels)


def values_with_pillow(source: EncodedImage, transform: ImageTransform) -> NDArray[Any]:
    """The same of a grey image of 16 bits, with all of them: (height, width, 1)."""

    def values(image: Image.Image) -> NDArray[Any]:
        if not is_wide(image.mode):
            raise SixteenBitError(f"expected grey of 16 bits a pixel, found an image of Pillow's mode {image.mode}")
        return np.array(image)[..., np.newaxis]

    return _with_pillow(source, transform, values)


def _with_pillow(
    source: EncodedImage, transform: ImageTransform, take: Callable[[Image.Image], NDArray[Any]]
) -> NDArray[Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata, and about sizes that max_pixels allows
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
                if image.width * image.height > transform.max_pixels:
                    raise Image.DecompressionBombError(
                        f"{image.width} x {image.height} pixels, more than max_pixels = {transform.max_pixels}"
                    )
                turned = ImageOps.exif_transpose(image) if transform.exif_orientation else image
                return take(turned)
    except SixteenBitError:
        raise
    except UnidentifiedImageError as error:
        raise DecodeError(describe_unknown(_head(source))) from error
    except Exception as error:  # Pillow's plugins raise exceptions of any type
        raise DecodeError(f"Pillow: {error}") from error


def _head(source: EncodedImage) -> bytes:
    if isinstance(source, bytes):
        return source[:HEAD]
    with open(source, "rb") as file:
        return file.read(HEAD)


def failure_reason(error: DecodeError) -> str:
    """The reason, as in `DecodeFailure.reason`, of an error of `decode_with_pillow`."""
    if isinstance(error, SixteenBitError):
        return REASON
    cause = error.__cause__
    if isinstance(cause, UnidentifiedImageError):
        return "unsupported"
    if isinstance(cause, Image.DecompressionBombError):
        return "too_large"
    if isinstance(cause, OSError) and cause.errno is not None:
        return "io"
    return "truncated" if "truncated" in str(cause).lower() else "corrupt"


def _decode(
    items: list[bytes | str], out: NDArray[np.uint8], packer: _C.Packer, transform: ImageTransform
) -> dict[int, tuple[str, str]]:
    """Fills `out`, one row per item; returns (reason, message) of the failed items, by index."""
    errors = _run(packer, tuple(items), out, None)
    for index in [index for index, (reason, _) in errors.items() if reason == "unsupported"]:
        try:
            pixels = decode_with_pillow(items[index], transform)
        except DecodeError as error:
            errors[index] = failure_reason(error), str(error)
            continue
        del errors[index]
        refused = _run(packer, (pixels,), out, [index])
        if refused:
            errors[index] = refused[0]
    return errors


def _run(
    packer: _C.Packer, items: tuple[_C.PackItem, ...], out: NDArray[np.uint8], rows: list[int] | None
) -> dict[int, tuple[str, str]]:
    """Runs one job of the packer, which Ctrl-C can interrupt; returns its failures by item."""
    packer.start(items, rows=rows, out=out)
    while not packer.wait(0.1):  # signal handlers run between the calls
        pass
    failures = packer.result()[3]
    return {index: (reason, message) for index, reason, message in failures}


def _first_size(sources: list[bytes | str], transform: ImageTransform) -> tuple[int, int]:
    """Output height and width of the first readable image."""
    for source in sources:
        size = _size(source, transform)
        if size is not None:
            return transform.output_size(*size)
    if not sources:
        raise ArgumentError(
            "expected at least one source, or a crop or resize=(height, width) that determines the size, found none"
        )
    return 1, 1  # no image is readable; each is reported later


def _size(source: bytes | str, transform: ImageTransform) -> tuple[int, int] | None:
    """Height and width of an image; None if it can't be read."""
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        try:
            _, width, height, orientation = _C.image_info(data)
        except DecodeError:
            height, width, _ = decode_with_pillow(data, transform).shape
            return height, width
    except (OSError, DecodeError):
        return None
    return (height, width) if transform.exif_orientation or orientation < 5 else (width, height)


def _as_source(source: EncodedImage) -> bytes | str:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    if isinstance(source, (str, os.PathLike)):
        return os.fsdecode(source)
    raise ArgumentError(f"sources: expected paths or bytes, found {type(source).__name__}")


def _name(source: bytes | str) -> str:
    return source if isinstance(source, str) else f"<{len(source)} bytes>"
