"""Reads the arrays of several shards as one array."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from largeds_native._internal.arrays import Array
from largeds_native.errors import RowIndexError


def row_numbers(key: Any, n: int) -> Array:
    """Converts numbers from -n to n - 1, or n booleans, to int64 from 0 to n - 1; RowIndexError for anything else."""
    index = np.asarray(key)
    if index.dtype == np.bool_:
        if index.shape != (n,):
            raise RowIndexError(f"expected {n} booleans, found shape {index.shape}")
        index = np.flatnonzero(index)
    if index.size == 0:
        index = index.astype(np.int64)
    if index.dtype.kind not in "iu":
        raise RowIndexError(f"expected row numbers, found {index.dtype.name}")
    bad = index >= n  # before the conversion, which would wrap large unsigned numbers
    if index.dtype.kind == "i":
        bad |= index < -n
    if bad.any():
        raise RowIndexError(f"row {index[bad][0]} is outside of {n} rows")
    index = index.astype(np.int64)
    return np.where(index < 0, index + n, index)


class ConcatArray:
    """Concatenates arrays along their first axis without copying; parts are mapped on first access.

    Indexing with an int gives a view of a row; with a slice, row numbers or booleans, a copy. `np.asarray` copies all
    rows. Read-only.
    """

    def __init__(
        self, rows: Sequence[int], row_shape: tuple[int, ...], dtype: np.dtype[Any], part: Callable[[int], Array]
    ):
        self._starts = np.concatenate([[0], np.cumsum(np.asarray(rows, np.int64))]).astype(np.int64)
        self._part = part
        self.dtype = dtype
        self.shape = (int(self._starts[-1]), *row_shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        for part in range(len(self._starts) - 1):
            yield from self._part(part)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("rows of several shards can't be one array without a copy")
        return np.asarray(self[:], dtype)

    def __repr__(self) -> str:
        return f"<{self.dtype.name} array of shape {self.shape} in {len(self._starts) - 1} shards>"

    def __getitem__(self, key: Any) -> Any:
        return self._at(key, ()) if not isinstance(key, tuple) else self._at_each(key)

    def _at_each(self, key: tuple[Any, ...]) -> Any:
        """As numpy indexes one array: an Ellipsis stands for all dimensions that the key leaves out."""
        if not key:
            return self[:]
        if key[0] is Ellipsis:
            given = sum(part is not None for part in key[1:])
            return self._at_each((*[slice(None)] * (self.ndim - given), *key[1:]))
        if key[0] is None:
            return self._at_each(key[1:])[np.newaxis]
        return self._at(key[0], key[1:])

    def _at(self, first: Any, rest: tuple[Any, ...]) -> Any:
        """self[first, *rest]"""
        if first is None or first is Ellipsis:
            return self._at_each((first, *rest))
        if isinstance(first, (bool, np.bool_)):
            raise RowIndexError(f"expected row numbers, found {first!r}")
        if isinstance(first, slice):
            rows = self._take(np.arange(*first.indices(len(self)), dtype=np.int64))
            return rows[(slice(None), *rest)] if rest else rows
        if np.ndim(first) == 0:
            row = self._row(operator.index(first))
            return row[rest] if rest else row
        index = row_numbers(first, len(self))
        rows = self._take(index.reshape(-1))
        return rows[(np.arange(len(rows)).reshape(index.shape), *rest)]

    def _row(self, index: int) -> Any:
        if not -len(self) <= index < len(self):
            raise RowIndexError(f"row {index} is outside of {len(self)} rows")
        index %= len(self)
        part = int(np.searchsorted(self._starts, index, "right")) - 1
        return self._part(part)[index - int(self._starts[part])]

    def _take(self, index: np.ndarray[Any, np.dtype[np.int64]]) -> Array:
        out = np.empty((len(index), *self.shape[1:]), self.dtype)
        parts = np.searchsorted(self._starts, index, "right") - 1
        for part in np.unique(parts):
            chosen = parts == part
            out[chosen] = self._part(int(part))[index[chosen] - self._starts[part]]
        return out
