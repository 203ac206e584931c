"""Orders of an epoch as functions of (seed, epoch, position): no state, and no list of a million numbers in memory."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from largeds_native.errors import ArgumentError

Int64Array = NDArray[np.int64]
MASK = (1 << 64) - 1
MAX_ROWS = (1 << 63) - 1


class Order(ABC):
    """Maps the positions 0 .. length of an epoch to n elements."""

    name: str
    repeats = False  # whether an element may come twice in an epoch

    def __init__(self, n: int, length: int | None = None) -> None:
        self.n = n
        self.length = n if length is None else length

    @abstractmethod
    def elements(self, epoch: int, start: int, count: int) -> Int64Array:
        """The elements at positions start .. start + count; all of these are inside of the epoch."""

    def candidates(self) -> Int64Array | None:
        """The elements that may come, in order; None if they are all."""
        return None

    def copy(self) -> Order:
        """The same order, for another thread."""
        return copy(self)

    def describe(self) -> tuple[Any, ...]:
        """Two orders are the same if their descriptions are equal; a saved state is checked with it."""
        return (self.name, self.n, self.length)

    def wrapped(self, epoch: int, start: int, count: int) -> Int64Array:
        """As `elements`, but positions past the end of the epoch wrap around to its start."""
        parts = []
        while count > 0:
            start %= self.length
            some = min(count, self.length - start)
            parts.append(self.elements(epoch, start, some))
            start, count = start + some, count - some
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.int64), *parts])


class Sequential(Order):
    name = "sequential"

    def elements(self, epoch: int, start: int, count: int) -> Int64Array:
        return np.arange(start, start + count, dtype=np.int64)


class Random(Order):
    """A keyed permutation (KeyedPermutation in csrc/common/random.h): bounded memory, random access to any position."""

    name = "random"

    def __init__(self, n: int, seed: int) -> None:
        super().__init__(n)
        self.seed = seed

    def elements(self, epoch: int, start: int, count: int) -> Int64Array:
        from largeds_native import _C

        return _C.permute(self.n, self.seed, epoch, start, count)

    def describe(self) -> tuple[Any, ...]:
        return (*super().describe(), self.seed)


class Block(Order):
    """Windows of neighbouring rows in random order; `TOGETHER` windows at a time are shuffled together.

    For data larger than memory: at any time rows come from only 16 windows, each a run of `block` rows, and a row's
    neighbours on disk come within the same 16 * block positions. The windows of a group are spread over the store: on
    data sorted by class, with at least 16 classes of `block` images or more, a batch has about 16 classes.
    """

    name = "block"
    TOGETHER = 16

    def __init__(self, n: int, seed: int, block: int) -> None:
        super().__init__(n)
        if not isinstance(block, (int, np.integer)) or not 1 <= block <= MAX_ROWS:
            raise ArgumentError(f"block: expected at least 1 row, as a whole number below 2**63, found {block!r}")
        self.block = int(block)
        self._begin(seed, -(-n // self.block), self.TOGETHER)

    def _begin(self, seed: int, windows: int, together: int) -> None:
        self.seed, self._windows, self.together = seed, windows, together
        self._epoch: tuple[int, Int64Array, Int64Array] | None = None

    def _layout(self, epoch: int) -> tuple[Int64Array, Int64Array]:
        """The windows in their order, and the positions at which the groups begin and the last one ends."""
        if self._epoch is None or self._epoch[0] != epoch:
            from largeds_native import _C

            windows = _C.permute(self._windows, self.seed, epoch, 0, self._windows)
            sizes = self._sizes(windows)
            ends = np.cumsum(np.add.reduceat(sizes, np.arange(0, len(sizes), self.together)))
            self._epoch = (epoch, windows, np.concatenate([[0], ends]))
        return self._epoch[1:]

    def _sizes(self, windows: Int64Array) -> Int64Array:
        """The rows of each of these windows."""
        return np.minimum(self.block, self.n - windows * self.block)

    def _firsts(self, windows: Int64Array) -> Int64Array:
        """The first row of each of these windows."""
        return windows * self.block

    def elements(self, epoch: int, start: int, count: int) -> Int64Array:
        from largeds_native import _C

        windows, bounds = self._layout(epoch)
        parts = []
        group = int(np.searchsorted(bounds, start, "right")) - 1
        while count > 0:
            low, high = int(bounds[group]), int(bounds[group + 1])
            some = min(count, high - start)
            key = (self.seed + (group + 1) * 0x9E3779B97F4A7C15) & MASK
            inside = _C.permute(high - low, key, epoch, start - low, some)
            chosen = windows[group * self.together : (group + 1) * self.together]
            ends = np.cumsum(self._sizes(chosen))
            which = np.searchsorted(ends, inside, "right")
            parts.append(self._firsts(chosen)[which] + inside - np.concatenate([[0], ends])[which])
            start, count, group = start + some, count - some, group + 1
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.int64), *parts])

    def describe(self) -> tuple[Any, ...]:
        return (*super().describe(), self.seed, self.block)


class ShardBlock(Block):
    """`Block`, whose windows are the shards of a store: for stores in object storage whose cache is smaller than they
    are, since at any time rows come from few whole shards.

    As many shards are shuffled together as make a sixteenth of the store, 1 to 16 of them, so that a cache of a quarter
    of it holds those in use and the next ones. A function of the shards' rows, seed and epoch alone.
    """

    def __init__(self, shard_rows: Sequence[int], seed: int) -> None:
        rows = np.asarray(shard_rows, np.int64)
        self._rows_of = rows[rows > 0]
        self._first_of = np.concatenate([[0], np.cumsum(self._rows_of)])
        Order.__init__(self, int(self._first_of[-1]))
        shards = len(self._rows_of)
        self._begin(seed, shards, min(self.TOGETHER, max(1, shards // 16)))

    def _sizes(self, windows: Int64Array) -> Int64Array:
        return self._rows_of[windows]

    def _firsts(self, windows: Int64Array) -> Int64Array:
        return self._first_of[windows]

    def describe(self) -> tuple[Any, ...]:
        return (self.name, self.n, self.length, self.seed, "shard", zlib.crc32(self._rows_of.tobytes()))


class Weighted(Order):
    """n independent draws, element i with probability weights[i] / sum(weights), so elements may repeat or be absent.

    Position p's draw is number p of numpy's Philox stream keyed by (seed, epoch). Takes O(n) memory.
    """

    name = "weighted"
    repeats = True

    def __init__(self, weights: ArrayLike, n: int, seed: int) -> None:
        super().__init__(n)
        try:
            array = np.asarray(weights, np.float64)
        except (TypeError, ValueError):
            raise ArgumentError(f"weights: expected {n} numbers, one per sample, found {weights!r:.100}") from None
        if array.shape != (n,):
            raise ArgumentError(f"weights: expected {n} numbers, one per sample, found shape {array.shape}")
        with np.errstate(over="ignore"):  # refused below
            total = array.sum()
        if not np.isfinite(array).all() or (array < 0).any() or not 0 < total < np.inf:
            raise ArgumentError("weights: expected finite numbers, none negative, not all 0")
        self.seed = seed
        self._ends = np.cumsum(array)
        self._possible = np.flatnonzero(array) if (array == 0).any() else None

    def candidates(self) -> Int64Array | None:
        return self._possible

    def elements(self, epoch: int, start: int, count: int) -> Int64Array:
        stream = np.random.Philox(key=np.array([self.seed, epoch & MASK], np.uint64))
        stream.advance(start // 4)  # a step of Philox gives four numbers
        raw = stream.random_raw(count + start % 4)[start % 4 :]
        drawn = (raw >> np.uint64(11)) * 2.0**-53 * self._ends[-1]
        # the first cumulative sum above the draw: an element of weight 0 is never drawn
        drawn_elements: Int64Array = np.minimum(np.searchsorted(self._ends, drawn, "right"), self._last)
        return drawn_elements

    @property
    def _last(self) -> int:
        """The last element whose weight is not 0, for a draw that is rounded up to the sum of all weights."""
        return int(np.searchsorted(self._ends, self._ends[-1], "left"))

    def describe(self) -> tuple[Any, ...]:
        return (*super().describe(), self.seed, zlib.crc32(self._ends.data))


class Subset(Order):
    """Another order, whose elements are positions in `indices`."""

    def __init__(self, inner: Order, indices: Int64Array) -> None:
        super().__init__(inner.n, inner.length)
        self.name, self._inner, self.indices = inner.name, inner, np.ascontiguousarray(indices)
        self.repeats = inner.repeats or len(np.unique(self.indices)) < len(self.indices)

    def elements(self, epoch: int, start: int, count: int) -> Int64Array:
        chosen: Int64Array = self.indices[self._inner.elements(epoch, start, count)]
        return chosen

    def copy(self) -> Order:
        other = copy(self)
        other._inner = self._inner.copy()
        return other

    def candidates(self) -> Int64Array | None:
        inner = self._inner.candidates()
        return np.unique(self.indices if inner is None else self.indices[inner])

    def describe(self) -> tuple[Any, ...]:
        return (*self._inner.describe(), zlib.crc32(self.indices.data))


def check_seed(seed: int) -> int:
    if not isinstance(seed, (int, np.integer)) or not 0 <= seed <= MASK:
        raise ArgumentError(f"seed: expected an integer from 0 to 2**64 - 1, found {seed!r}")
    return int(seed)
