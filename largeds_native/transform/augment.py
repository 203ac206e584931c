"""Random augmentation of images, drawn by (seed, epoch, sample), in the loader or ahead of time in `pack`."""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

from largeds_native.errors import ArgumentError
from largeds_native.transform.image_transform import MAX_SIDE

if TYPE_CHECKING:
    from largeds_native import _C

Size = int | tuple[int, int]
INTERPOLATIONS = ("bilinear", "bicubic")


@dataclass(frozen=True)
class Augment:
    """At most one of three crops, and flips. Sizes are a side or (height, width) in pixels.

    For images of many sizes, `resized_crop`, or `resize` with `center_crop`, gives all samples one size.

    random_crop: size of a crop at a uniformly random position, after padding with `padding` zero pixels on every side
        (torchvision's RandomCrop).
    resized_crop: output size of a crop of random area (`scale`, relative to the image's area) and aspect ratio
        (`ratio`, width / height), resized with antialiasing (torchvision's RandomResizedCrop).
    resize: the size to which the whole image is resized with antialiasing before `center_crop` (torchvision's Resize):
        a number is the shorter side, (height, width) is exact and needs no crop.
    center_crop: size of a centre crop (torchvision's CenterCrop), for validation.
    interpolation: "bilinear" or "bicubic", for what is resized.
    flip, vertical_flip: probabilities of a horizontal and of a vertical flip, in [0, 1], drawn one by one.

    The draws are a function of (seed, epoch, sample) alone (Philox 4x32-10), not of threads, ranks or restarts.
    Raises ArgumentError for sizes below 1, more than one crop, a `resize` that does not go with the crop, or invalid
    ranges.
    """

    random_crop: Size | None = None
    padding: int = 0
    resized_crop: Size | None = None
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.0
    center_crop: Size | None = None
    resize: Size | None = None
    interpolation: str = "bilinear"
    vertical_flip: float = 0.0

    def __post_init__(self) -> None:
        crops = {name: getattr(self, name) for name in ("random_crop", "resized_crop", "center_crop")}
        chosen = {name: size for name, size in crops.items() if size is not None}
        if len(chosen) > 1:
            raise ArgumentError(f"expected one crop, found {' and '.join(chosen)}")
        for name, size in chosen.items():
            object.__setattr__(self, name, size_of(name, size))
        self._check_resize()
        if not isinstance(self.padding, int) or not 0 <= self.padding <= MAX_SIDE:
            raise ArgumentError(f"padding: expected a number of pixels from 0 to {MAX_SIDE}, found {self.padding!r}")
        if self.padding and self.random_crop is None:
            raise ArgumentError("padding is for random_crop: pass the size of random_crop too")
        scale, ratio = _range("scale", self.scale), _range("ratio", self.ratio)
        if scale[1] > 1:
            raise ArgumentError(f"scale: expected shares of the image's area, at most 1, found {scale}")
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "ratio", ratio)
        for name, value in (("flip", self.flip), ("vertical_flip", self.vertical_flip)):
            if not isinstance(value, Real) or not 0 <= value <= 1:
                raise ArgumentError(f"{name}: expected a probability in [0, 1], found {value!r}")

    def _check_resize(self) -> None:
        if self.interpolation not in INTERPOLATIONS:
            known = ", ".join(map(repr, INTERPOLATIONS))
            raise ArgumentError(f"interpolation: expected one of {known}, found {self.interpolation!r}")
        if self.resize is None:
            return
        if self.random_crop is not None or self.resized_crop is not None:
            raise ArgumentError("resize: expected with center_crop or alone, found another crop")
        exact = isinstance(self.resize, Sequence)
        height, width = size_of("resize", self.resize)
        object.__setattr__(self, "resize", (height, width) if exact else height)
        if self.center_crop is None:
            if not exact:
                raise ArgumentError(
                    f"resize={height} is the shorter side, so that samples have many sizes: add center_crop=, or give "
                    "(height, width)"
                )
            object.__setattr__(self, "center_crop", (height, width))

    @property
    def fixes_size(self) -> bool:
        """Whether all samples have one size, whatever the sizes of the images."""
        return self.resized_crop is not None or self.random_crop is not None or self.center_crop is not None

    def to_json(self) -> dict[str, Any]:
        """For a manifest, which lacks the options that came later where they have their defaults."""
        tree = dataclasses.asdict(self)
        for name in ("resize", "interpolation", "vertical_flip"):
            if tree[name] == type(self).__dataclass_fields__[name].default:
                del tree[name]
        return tree

    def core(self) -> _C.AugmentSpec:
        """This augmentation for the C++ core."""
        from largeds_native import _C

        crops = {"random": self.random_crop, "random_resized": self.resized_crop, "center": self.center_crop}
        crop, size = next(((crop, size) for crop, size in crops.items() if size is not None), ("none", (0, 0)))
        height, width = size_of("crop", size) if crop != "none" else (0, 0)
        return _C.AugmentSpec(
            crop=crop,
            height=height,
            width=width,
            resize=(self.resize, 0) if isinstance(self.resize, int) else self.resize or (0, 0),
            padding=self.padding,
            scale=self.scale,
            ratio=self.ratio,
            flip=float(self.flip),
            vertical_flip=float(self.vertical_flip),
            filter=self.interpolation,
        )


def size_of(name: str, value: Any) -> tuple[int, int]:
    """A side or (height, width) as (height, width)."""
    sides = tuple(value) if isinstance(value, Sequence) else (value, value)
    try:
        height, width = (operator.index(side) for side in sides)
    except (TypeError, ValueError):
        raise ArgumentError(f"{name}: expected a side or (height, width) in pixels, found {value!r}") from None
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise ArgumentError(f"{name}: expected sides of at least 1 pixel, and at most {MAX_SIDE}, found {value!r}")
    return height, width


def _range(name: str, value: Any) -> tuple[float, float]:
    try:
        low, high = (float(bound) for bound in value)
    except (TypeError, ValueError):
        raise ArgumentError(f"{name}: expected (low, high), found {value!r}") from None
    if not (0 < low <= high and math.isfinite(high)):
        raise ArgumentError(f"{name}: expected 0 < low <= high, found {value!r}")
    return low, high
