"""Which images are stored as the arrays that they are, and not as 8-bit colours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from largeds_native._internal.arrays import IMAGE_DTYPES, Array, ValueSpec
from largeds_native.errors import ArgumentError
from largeds_native.packing.options import PackOptions
from largeds_native.packing.pillow import PixelsError
from largeds_native.sources import Source

COLOURS = (1, 3)  # numbers of channels that can become 8-bit grey or colours


def fitted(options: PackOptions, source: Source) -> PackOptions:
    """The options for a source: with `values`, where its images are kept as they are. ArgumentError where they don't
    fit its images."""
    asked = options.dtype if options.dtype_given else None
    found = source.values
    if found is None and asked == "int16":
        raise ArgumentError("dtype='int16': image files have no negative values: expected uint8, uint16, float16 or "
                            "float32")  # fmt: skip
    if found is None:
        kept = ValueSpec(np.dtype(np.uint16), 1) if asked == "uint16" else None
    else:
        kept = None if _become_colours(options, source, found, asked) else _kept(source, found, asked)
    if kept is None:
        return options
    _check(options, source, kept)
    return replace(options, values=kept, dtype=kept.dtype.name)


def _become_colours(options: PackOptions, source: Source, found: ValueSpec, asked: str | None) -> bool:
    """Whether the images become 8-bit colours, or grey."""
    if found.channels not in COLOURS:
        return False
    if found.dtype == np.uint8:
        return asked not in ("uint16", "int16")
    told = options.codec == "jpeg" or options.transform.sixteen_bit is not None or options.mean is not None
    return told or asked == "uint8" or (asked is None and not source.keeps_values)


def _kept(source: Source, found: ValueSpec, asked: str | None) -> ValueSpec:
    """The values that are stored: numbers of another size only where the caller says so."""
    name = asked or found.dtype.name
    same_kind = (name[0] == "f") == (found.dtype.kind == "f") and (found.dtype == np.uint8) == (name == "uint8")
    if name not in IMAGE_DTYPES or not same_kind:
        fits = ("float16", "float32") if found.dtype.kind == "f" else ("uint16", "int16")
        expected = "uint8" if found.dtype == np.uint8 else " or ".join(fits)
        given = "none" if asked is None else repr(asked)
        raise ArgumentError(
            f"dtype: the images of {source.description} are {found}: expected {expected}, found {given}"
        )
    return ValueSpec(np.dtype(name), found.channels)


def _check(options: PackOptions, source: Source, kept: ValueSpec) -> None:
    """Raises ArgumentError for options that kept values do not have."""
    transform = options.transform
    for name, differs, instead in (
        ("codec='jpeg'", options.codec == "jpeg", "a JPEG row has 8 bits and 1 or 3 channels: pack with codec='raw'"),
        ("mode='L'", transform.mode != "RGB", "they keep their channels: leave mode out"),
        ("sixteen_bit", transform.sixteen_bit is not None, "they keep all bits: leave sixteen_bit out"),
        ("mean", options.mean is not None, "they are not normalised: pass mean and std to the Loader"),
        ("augment", options.augment is not None, "they are not augmented ahead: pass augment to the Loader"),
        (
            "antialias=False",
            transform.resizes_without_antialias,
            "they are resized with antialiasing: leave antialias out",
        ),
    ):
        if differs:
            raise ArgumentError(f"{name}: the images of {source.description} are stored as {kept}, and {instead}")


def as_values(item: Array, kept: ValueSpec, max_pixels: int) -> Array:
    """An array (H, W, C) of numbers as the core takes it: of the dtype that is stored. PixelsError if it is of another
    kind, or has numbers that do not fit."""
    height, width, channels = item.shape
    if height * width > max_pixels:
        raise PixelsError("too_large", f"{width} x {height} pixels, more than max_pixels = {max_pixels}")
    if channels != kept.channels:
        raise PixelsError("unsupported", f"expected an image of {kept}, found {channels}")
    values = item if item.dtype == kept.dtype else _converted(item, kept)
    size, strides = values.itemsize, values.strides
    interleaved = strides[1] == size * channels and (strides[2] == size or channels == 1)
    return values if interleaved or strides[1] == size else np.ascontiguousarray(values)


def _converted(values: Array, kept: ValueSpec) -> Array:
    same_kind = (values.dtype.kind == "f") == (kept.dtype.kind == "f") and values.dtype.kind in "iuf"
    # values of 8 bits have another range than those of 16, which the loader divides by 65535
    if not same_kind or np.uint8 in (values.dtype, kept.dtype):
        raise PixelsError("unsupported", f"expected an image of {kept.dtype}, found {values.dtype}")
    if kept.dtype.kind != "f" and values.size:
        limits, low, high = np.iinfo(kept.dtype), int(values.min()), int(values.max())
        if low < limits.min or high > limits.max:
            raise PixelsError("unsupported", f"expected values of {kept.dtype}, found {low} to {high}")
    with np.errstate(over="ignore"):
        found = values.astype(kept.dtype)
    if kept.dtype.kind == "f" and (np.isinf(found) & ~np.isinf(values)).any():
        raise PixelsError(
            "unsupported", f"expected values of {kept.dtype}, found up to {np.nanmax(np.abs(values)):.6g}"
        )
    return found
