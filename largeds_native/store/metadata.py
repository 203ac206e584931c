"""The metadata of a store, known without reading its rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from largeds_native._internal.arrays import FieldSpec
from largeds_native._internal.units import size

MeanStd: TypeAlias = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Metadata:
    """Describes all rows of a store.

    `rows` is the number of images, `shape` that of one stored image, (C, H, W) or (H, W, C). `normalized` is the (mean,
    std) by which float images were normalised before storing; `statistics` is the (mean, std) of the pixels before
    that, or None if it was not computed. `options` and `libraries` record how the pixels were made, if that is known.
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

    @property
    def channels(self) -> int:
        return self.shape[0 if self.layout == "CHW" else 2]

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width)"""
        return self.shape[1:] if self.layout == "CHW" else self.shape[:2]

    @property
    def row_bytes(self) -> int:
        """Bytes of one image (of one variant)."""
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
        facts = [f"{self.rows:,} images", f"{self.layout} {self.shape}", self.dtype.name]
        if self.variants > 1:
            facts.append(f"{self.variants} variants")
        if self.classes:
            facts.append(f"{len(self.classes)} classes")
        if self.fields:
            facts.append("fields " + ", ".join(self.fields))
        return [*facts, size(self.rows * self.sample_bytes)]
