"""Packs images that are arrays of values, into raw rows of the same values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from largeds_native._internal.arrays import Array, ValueSpec
from largeds_native.packing import pillow
from largeds_native.packing.engine import Engine
from largeds_native.packing.kept_values import as_values
from largeds_native.packing.options import PackOptions

if TYPE_CHECKING:
    from largeds_native import _C


class ValueEngine(Engine):
    """They are resized in float32, and rounded to the nearest even integer. Files are decoded by Pillow."""

    def __init__(self, options: PackOptions, kept: ValueSpec, size: tuple[int, int], threads: int) -> None:
        self._kept = kept
        super().__init__(options, size, threads)

    def _make_packer(self, size: tuple[int, int]) -> _C.Packer:
        from largeds_native import _C

        core = self._options.transform.value_core(size, self._kept.channels, self._options.layout)
        return _C.Packer(core, self._threads, values=self._kept.dtype.name)

    def _from_array(self, item: Array) -> Array:
        return as_values(item, self._kept, self._options.transform.max_pixels)

    def _decode_one(self, item: Any) -> Array:
        return self._from_array(pillow.values(item, self._options.transform))
