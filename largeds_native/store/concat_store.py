"""Several stores one after another."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from largeds_native._internal.arrays import Array
from largeds_native.errors import ArgumentError, StoreError
from largeds_native.store.base import RowFile, Store, check_decode
from largeds_native.store.image_sequence import ImageSequence
from largeds_native.store.metadata import Metadata, SizeRange
from largeds_native.store.packed import as_packed
from largeds_native.store.verify import Verification

if TYPE_CHECKING:
    from largeds_native import _C


class ConcatStore(Store):
    """The rows of several stores, of raw and of JPEG rows, one store after another: see `largeds_native.concat`."""

    def __init__(self, stores: Sequence[Store]) -> None:
        self.stores = tuple(stores)
        name = self.stores[0].path.name + (f" and {len(self.stores) - 1} more" if len(self.stores) > 1 else "")
        super().__init__(self.stores[0].path.with_name(name), _joined(self.stores))
        self._starts = np.cumsum([0, *map(len, self.stores)])

    def __reduce__(self) -> tuple[Any, ...]:
        return (ConcatStore, (self.stores,))

    @cached_property
    def identity(self) -> str:
        return hashlib.sha256("".join(store.identity for store in self.stores).encode()).hexdigest()[:16]

    def files(self, name: str) -> list[RowFile]:
        return [file for store in self.stores for file in store.files(name)]

    def _map(self, name: str, part: int) -> Array:
        for store in self.stores:
            count = len(store.files(name))
            if part < count:
                return store.part(name, part)
            part -= count
        raise IndexError(part)

    def row_in_store(self, row: int) -> tuple[Store, int]:
        """The store that holds a row, and its number there."""
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self.stores[number], row - int(self._starts[number])

    @property
    def images(self) -> Any:
        """All images: an array-like of all rows if they are raw and of one shape, else a sequence."""
        if self.metadata.sizes is None:
            return super().images
        return ImageSequence(self.path, self.metadata, self._image, self.shape, self.dtype)

    def _image(self, row: int) -> Any:
        store, row = self.row_in_store(row)
        return store.images[row]

    @property
    def rows(self) -> _C.RowSource:
        if self._rows is None:
            from largeds_native import _C

            self._rows = _C.ConcatRows([store.rows for store in self.stores])
        return self._rows

    def read_spec(self, decode: str = "exact") -> _C.ReadSpec:
        from largeds_native import _C

        check_decode(decode)
        parts = [store.read_spec("exact" if store.metadata.sizes is None else decode) for store in self.stores]
        height, width = self.metadata.image_size if self.metadata.sizes is None else self.metadata.sizes.min
        dtype, planar = self.dtype.name, self.layout == "CHW"
        smallest = _C.ImageLayout(channels=self.channels, height=height, width=width, planar=planar, dtype=dtype)
        return _C.ReadSpec(smallest, parts=parts)

    @property
    def sizes(self) -> Array:
        """Height and width of each row, (N, 2)."""
        return np.concatenate([np.asarray(store.sizes[:], np.int64) for store in self.stores])

    @cached_property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(mean, std) per channel in [0, 1] units: of each store by its own `statistics`, weighted by its pixels."""
        pixels = [int(np.asarray(store.sizes[:], np.int64).prod(axis=1).sum()) for store in self.stores]
        known = [(store.statistics, n) for store, n in zip(self.stores, pixels, strict=True) if n]
        total = sum(n for _, n in known)
        if not total:
            raise StoreError(f"{self.path} has no statistics: it has no images")
        mean, std = [], []
        for c in range(self.channels):
            first = sum(m[c] * n for (m, _), n in known) / total
            second = sum((s[c] ** 2 + m[c] ** 2) * n for (m, s), n in known) / total
            mean.append(first)
            std.append(math.sqrt(max(second - first**2, 0.0)))
        return tuple(mean), tuple(std)

    def verify(self, *, threads: int | None = None) -> Verification:
        """`PackedStore.verify` of each store; rows count in all stores together. StoreError if one was not packed."""
        damaged: list[int] = []
        shards: list[str] = []
        for store, start in zip(self.stores, self._starts.tolist(), strict=False):
            packed = store if isinstance(store, ConcatStore) else as_packed(store)
            found = packed.verify(threads=threads)
            damaged += [start + row for row in found.damaged]
            shards += [f"{store.path.name}/{name}" for name in found.damaged_shards]
        return Verification(len(self), tuple(damaged), tuple(shards))


def concat(stores: Sequence[Store]) -> ConcatStore:
    """Several stores as one, one after another: those with raw rows, with JPEG rows, and mapped arrays.

    `order="weighted"` of a Loader mixes them: `weights` are one number a row of all stores.

    Raises ArgumentError unless all have the same number of channels, dtype, layout and fields, one variant of each
    image, and classes with the same numbers, of which one may have more. If images differ in size, a Loader needs an
    augment that gives them one.
    """
    given = stores if isinstance(stores, Iterable) and not isinstance(stores, Store) else [stores]
    parts = list(given)
    if not parts or not all(isinstance(store, Store) for store in parts):
        raise ArgumentError(f"stores: expected at least one Store, as largeds_native.open gives, found {stores!r:.100}")
    return ConcatStore(parts)


def _joined(stores: Sequence[Store]) -> Metadata:
    first = stores[0].metadata
    for store in stores:
        _check_alike(stores[0], store)
    described = [store.metadata for store in stores]
    sizes = [SizeRange(one.image_size, one.image_size) if one.sizes is None else one.sizes for one in described]
    low = (min(s.min[0] for s in sizes), min(s.min[1] for s in sizes))
    high = (max(s.max[0] for s in sizes), max(s.max[1] for s in sizes))
    one_array = low == high and all(store.metadata.codec == "raw" for store in stores)
    height, width = low if low == high else (0, 0)
    return Metadata(
        rows=sum(map(len, stores)),
        shape=(first.channels, height, width) if first.layout == "CHW" else (height, width, first.channels),
        dtype=first.dtype,
        layout=first.layout,
        fields=first.fields,
        classes=max((one.classes for one in described), key=len),
        normalized=first.normalized,
        codec="raw" if one_array else "jpeg",
        sizes=None if one_array else SizeRange(low, high, sum(store.nbytes for store in stores)),
    )


def _check_alike(first: Store, other: Store) -> None:
    """Raises ArgumentError, which says what differs."""
    a, b = first.metadata, other.metadata
    for name in ("channels", "dtype", "layout", "normalized", "fields", "classes"):
        one, two = getattr(a, name), getattr(b, name)
        if name == "classes" and one and two:  # more classes may follow in one of them
            one, two = one[: len(two)], two[: len(one)]
        if one != two:
            raise ArgumentError(
                f"stores: {name} of {first.path} and {other.path} differ: {one!r:.200} and {two!r:.200}; pack them "
                "with the same classes=, mode and fields"
            )
    if b.variants != 1:
        raise ArgumentError(f"stores: {other.path} has {b.variants} variants of each image: expected one")
