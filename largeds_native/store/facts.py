"""What a store says about itself, from its manifest alone."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from largeds_native._internal.units import size
from largeds_native.store.manifest import Manifest


class StoreFacts:
    """The part of a `Store` that reads nothing but `_manifest`."""

    _manifest: Manifest

    def summary(self) -> list[str]:
        """What the store holds, in a few words each."""
        parts = [f"{self._manifest.rows:,} images", f"{self.layout} {self.shape}", self.dtype.name]
        if self.variants > 1:
            parts.append(f"{self.variants} variants")
        if self.classes:
            parts.append(f"{len(self.classes)} classes")
        if self.fields:
            parts.append("fields " + ", ".join(self.fields))
        shards = len(self._manifest.shards)
        return [*parts, f"{shards} shard{'s' * (shards != 1)}, {size(self.nbytes)}"]

    @property
    def shape(self) -> tuple[int, int, int]:
        """One image's shape as stored."""
        return self._manifest.shape

    @property
    def layout(self) -> str:
        """ "CHW" or "HWC": the order of the dimensions of an image as stored."""
        return self._manifest.layout

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the images: uint8, float16 or float32, little-endian."""
        return self._manifest.dtype

    @property
    def channels(self) -> int:
        """1 (grey) or 3 (RGB)."""
        return self.shape[0 if self.layout == "CHW" else 2]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of an image, in pixels."""
        return self.shape[1:] if self.layout == "CHW" else self.shape[:2]

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of the label's numbers; empty when there are none."""
        return list(self._manifest.classes)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of what is stored beside the images, in the order of the manifest; "label" where there are labels."""
        return tuple(self._manifest.fields)

    @property
    def mean(self) -> tuple[float, ...] | None:
        """The mean that is baked into float images, in [0, 1] units; None when none is."""
        return self._manifest.normalized and self._manifest.normalized[0]

    @property
    def std(self) -> tuple[float, ...] | None:
        """The standard deviation that is baked into float images, in [0, 1] units; None when none is."""
        return self._manifest.normalized and self._manifest.normalized[1]

    @property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Exact (mean, std) of each channel over all packed images, before normalising, in [0, 1] units."""
        return self._manifest.statistics

    @property
    def variants(self) -> int:
        """Augmented versions stored of each image; 1 when the images are as they were."""
        return self._manifest.variants

    @property
    def manifest(self) -> dict[str, Any]:
        """`manifest.json` as plain data; see docs/store-format.md."""
        return self._manifest.to_json()

    @cached_property
    def identity(self) -> str:
        """A short hash: two stores share it only when contents and options are the same."""
        return self._manifest.identity

    @property
    def nbytes(self) -> int:
        """Bytes of the images alone."""
        return self._manifest.rows * self.variants * self._manifest.row_bytes

    @property
    def row_bytes(self) -> int:
        """Bytes of one image (of one variant)."""
        return self._manifest.row_bytes
