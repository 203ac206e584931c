"""The transform from an image file to pixels of a known size: decode, rotate, resize, crop."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from largeds_native._internal.limits import MAX_PIXELS
from largeds_native.errors import ArgumentError

if TYPE_CHECKING:
    from largeds_native import _C

Size = int | Sequence[int] | None

MODES = ("RGB", "L")
INTERPOLATIONS = ("nearest", "box", "bilinear", "bicubic", "lanczos")
MAX_SIDE = 1 << 16


class _NotGiven(int):
    """A default that shows as its number in signatures, but differs from the same number passed by a caller."""


RESIZE: Final = _NotGiven(256)
CROP: Final = _NotGiven(224)


@dataclass(frozen=True)
class ImageTransform:
    """How `pack` and `decode_batch` transform an image; their arguments have the same names.

    resize: the shorter side (int), exact (height, width), or None to keep the size. crop: a centre crop of a side or
        (height, width), or None for no crop. Both as in torchvision. If only one of them is given, the other follows:
        resize=64 gives 64x64, resize=(48, 64) and resize=None are not cropped, crop=192 resizes to 219, with the same
        margin as 224 in 256.
    sixteen_bit: how grey images of more than 8 bits a pixel become 8: "scale" takes the high byte (floats in [0, 1]:
        times 255), "clip" keeps 0 to 255 and makes the rest white, as Pillow's convert does. None: they fail.

    Raises ArgumentError for an invalid value, and for a crop that is larger than the resized images.
    """

    resize: Size = RESIZE
    crop: Size = CROP
    interpolation: str = "bilinear"
    antialias: bool = True
    decode: str = "exact"
    mode: str = "RGB"
    exif_orientation: bool = True
    truncated: str = "error"
    max_pixels: int = MAX_PIXELS
    sixteen_bit: str | None = None

    def __post_init__(self) -> None:
        resize, crop = _sizes(self.resize, self.crop)
        set_field = object.__setattr__  # the dataclass is frozen
        set_field(self, "resize", resize)
        set_field(self, "crop", crop)
        choice("interpolation", self.interpolation, INTERPOLATIONS)
        set_field(self, "antialias", flag("antialias", self.antialias))
        choice("decode", self.decode, ("exact", "scaled"))
        choice("mode", self.mode, MODES)
        set_field(self, "exif_orientation", flag("exif_orientation", self.exif_orientation))
        choice("truncated", self.truncated, ("error", "keep"))
        if self.sixteen_bit is not None:
            choice("sixteen_bit", self.sixteen_bit, ("scale", "clip"))
        set_field(self, "max_pixels", integer("max_pixels", self.max_pixels, 1, 1 << 40))

    @property
    def channels(self) -> int:
        return len(self.mode)

    @property
    def resizes_without_antialias(self) -> bool:
        """Which arrays of values can't be: the nearest filter has none anyway."""
        return not self.antialias and self.resize is not None and self.interpolation != "nearest"

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """(height, width) of every output image, or None if it depends on the input."""
        for size in (self.crop, self.resize):
            if isinstance(size, tuple):
                return size
        return None

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Output (height, width) of an image of this size."""
        return self.core((1, 1)).output_size(width, height)

    def core(self, size: tuple[int, int], layout: str = "CHW") -> _C.RowSpec:
        """This transform for the C++ core: to rows of images of (height, width) `size`."""
        from largeds_native import _C

        return _C.RowSpec(
            **self._geometry(size),
            planar=layout == "CHW",
            filter=self.interpolation,
            antialias=self.antialias,
            scaled=self.decode == "scaled",
            channels=self.channels,
            keep_truncated=self.truncated == "keep",
        )

    def value_core(self, size: tuple[int, int], channels: int, layout: str) -> _C.RowSpec:
        """The same geometry for arrays of this many channels, whose values are kept."""
        from largeds_native import _C

        return _C.RowSpec(
            **self._geometry(size),
            planar=layout == "CHW",
            filter=self.interpolation,
            channels=channels,
        )

    def _geometry(self, size: tuple[int, int]) -> dict[str, Any]:
        """What images and their pictures share."""
        resize_h, resize_w = _pair(self.resize)
        crop_h, crop_w = _pair(self.crop)
        return {
            "resize_h": resize_h,
            "resize_w": resize_w,
            "crop_h": crop_h,
            "crop_w": crop_w,
            "out_h": size[0],
            "out_w": size[1],
            "exif_orientation": self.exif_orientation,
            "max_pixels": self.max_pixels,
        }

    def number_core(self, size: tuple[int, int], value_bytes: int, interpolation: str = "nearest") -> _C.RowSpec:
        """The same geometry for masks, and PNG rows, of integers of this many bytes."""
        from largeds_native import _C

        return _C.RowSpec(
            **self._geometry(size),
            planar=False,
            filter=interpolation,
            channels=value_bytes,
            mask=True,
        )


def _pair(size: Any) -> tuple[int, int]:
    """(height, width) for the core: (0, 0) for None, (side, 0) for a shorter side."""
    if size is None:
        return 0, 0
    return size if isinstance(size, tuple) else (size, 0)


def _sizes(resize: Any, crop: Any) -> tuple[int | tuple[int, int] | None, tuple[int, int] | None]:
    """`resize` and `crop`, checked; one that was not given follows the other."""
    resize_given, crop_given = resize is not RESIZE, crop is not CROP
    sides = _size("resize", resize)
    cropped = _size("crop", crop)
    part = (cropped, cropped) if isinstance(cropped, int) else cropped
    if resize_given and not crop_given:
        part = (sides, sides) if isinstance(sides, int) else None
    elif crop_given and not resize_given and part is not None:
        sides = round(max(part) * RESIZE / CROP)
    if part is not None and sides is not None:
        height, width = sides if isinstance(sides, tuple) else (sides, sides)
        too_large = min(part) > sides if isinstance(sides, int) else part[0] > height or part[1] > width
        if too_large:
            raise ArgumentError(
                f"crop: {_text(part)} does not fit into images that are resized to {_text((height, width))}; "
                f"pass a smaller crop, or resize={max(part)} or more"
            )
    return sides, part


def _size(name: str, value: Any) -> int | tuple[int, int] | None:
    if value is None:
        return None
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ArgumentError(f"{name}: expected a side, (height, width) or None, found {value!r}")
        return integer(name, value[0], 1, MAX_SIDE), integer(name, value[1], 1, MAX_SIDE)
    return integer(name, value, 1, MAX_SIDE)


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def integer(name: str, value: Any, low: int, high: int) -> int:
    """A whole number in [low, high]; ArgumentError for anything else."""
    try:
        number = operator.index(value)
    except TypeError:
        number = low - 1
    if isinstance(value, bool) or not low <= number <= high:
        raise ArgumentError(f"{name}: expected a whole number from {low} to {high}, found {value!r}")
    return number


def flag(name: str, value: Any) -> bool:
    """True or False, also of numpy; ArgumentError for anything else."""
    if not isinstance(value, bool) and type(value).__name__ not in ("bool", "bool_"):
        raise ArgumentError(f"{name}: expected True or False, found {value!r}")
    return bool(value)


def choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """One of `choices`; ArgumentError for anything else."""
    if not isinstance(value, str) or value not in choices:
        raise ArgumentError(f"{name}: expected one of {', '.join(choices)}, found {value!r}")
    return value
