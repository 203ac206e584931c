"""The metadata of a store, known without reading its rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from largeds_native._internal.arrays import FieldSpec
from largeds_native._internal.units import size
from largeds_native.errors import StoreError

MeanStd: TypeAlias = tuple[tuple[float, ...], tuple[float, ...]]

RANGES = {"uint8": 255, "uint16": 65535, "int16": 32768}  # the number by which integers are divided for floats


def range_of(dtype: np.dtype[Any]) -> int:
    """The number by which the loader divides values of this dtype: mean and std are in its units. 1 for floats."""
    return RANGES.get(dtype.name, 1)


@dataclass(frozen=True)
class SizeRange:
    """Of the images of a JPEG store: the smallest and largest (height, width), each side on its own, as shown; and the
    bytes of all rows. Without rows, the sizes are (0, 0)."""

    min: tuple[int, int]
    max: tuple[int, int]
    bytes: int = 0

    def __str__(self) -> str:
        low, high = (f"{height}x{width}" for height, width in (self.min, self.max))
        return f"{low} to {high}" if low != high else low


@dataclass(frozen=True)
class Metadata:
    """Describes all rows of a store.

    `rows` is the number of images, `shape` that of one image, (C, H, W) or (H, W, C). `codec` is "raw" where a row is
    the image's pixels, "jpeg" where it is a JPEG file: then `sizes` has the range of sizes, and `shape` has 0 for
    height and width unless all images have one size. `normalized` is the (mean, std) by which float images were
    normalised before storing; `statistics` is the (mean, std) of the pixels before that, or None if it was not
    computed. `options` and `libraries` record how the pixels were made, if that is known.
    """

    rows: int
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    layout: str
    fields: Mapping[str, FieldSpec] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    normalized: MeanStd | None = None
    statistics: MeanStd | None = None
    variants: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)
    codec: str = "raw"
    sizes: SizeRange | None = None

    @property
    def channels(self) -> int:
        return self.shape[0 if self.layout == "CHW" else 2]

    @property
    def is_wide(self) -> bool:
        """Whether the images are of 16-bit integers, or of other than 1 or 3 channels."""
        return self.dtype.name in ("uint16", "int16") or self.channels not in (1, 3)

    @property
    def pictures(self) -> dict[str, FieldSpec]:
        """The fields that are pictures beside the images: masks and others."""
        return {name: spec for name, spec in self.fields.items() if spec.is_picture}

    @property
    def varies(self) -> bool:
        """Whether the images have more than one size."""
        return self.sizes is not None and self.sizes.min != self.sizes.max

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width). StoreError where the images have several."""
        if self.varies:
            raise StoreError(f"the images have many sizes, from {self.sizes} (height x width): see store.sizes")
        return self.shape[1:] if self.layout == "CHW" else self.shape[:2]

    @property
    def row_bytes(self) -> int:
        """Bytes of one decoded image (of one variant); 0 where the images have several sizes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def sample_bytes(self) -> int:
        """Bytes of one image with all its variants."""
        return self.variants * self.row_bytes

    def images_shape(self, rows: int) -> tuple[int, ...]:
        """Shape of the array of `rows` rows."""
        return (rows, *self.shape) if self.variants == 1 else (rows, self.variants, *self.shape)

    def array_spec(self, name: str) -> FieldSpec:
        """Dtype and row shape of a field or of "images"."""
        return FieldSpec(self.dtype, self.images_shape(0)[1:]) if name == "images" else self.fields[name]

    def facts(self) -> list[str]:
        """The contents of the store in short phrases."""
        facts = [f"{self.rows:,} images", *self.pixel_facts()]
        if self.variants > 1:
            facts.append(f"{self.variants} variants")
        if self.classes:
            facts.append(f"{len(self.classes)} classes")
        if self.fields:
            facts.append("fields " + ", ".join(self.fields))
        return [*facts, size(self.rows * self.sample_bytes if self.sizes is None else self.sizes.bytes)]

    def pixel_facts(self) -> list[str]:
        """What one image is, in short phrases."""
        if self.sizes is None:
            return [f"{self.layout} {self.shape}", self.dtype.name]
        return [f"JPEG {self.sizes} (height x width)", "RGB" if self.channels == 3 else "grey"]
