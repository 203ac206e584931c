"""Reads the arrays of several shards as one array."""

from __future__ import annotations

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
    index = index.astype(np.int64)
    bad = (index < -n) | (index >= n)
    if bad.any():
        raise RowIndexError(f"row {index[bad][0]} is outside of {n} rows")
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
        if isinstance(key, tuple):
            if not key:
                return self[:]
            rows = self[key[0]]
            return rows[key[1:]] if isinstance(key[0], (int, np.integer)) else rows[(slice(None), *key[1:])]
        if isinstance(key, (int, np.integer)):
            return self._row(int(key))
        if isinstance(key, slice):
            return self._take(np.arange(*key.indices(len(self)), dtype=np.int64))
        index = row_numbers(key, len(self))
        return self._take(index.reshape(-1)).reshape(*index.shape, *self.shape[1:])

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
