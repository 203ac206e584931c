"""The order of a mix: each store comes in proportion to its weight, at any position of any epoch.

Note [Mixing]
The draws of all epochs are one endless sequence, of which an epoch is the next `length`. A binary tree divides it
among the stores: of the first x draws of a node, floor(x * share) go to its left half, where `share` is a rational
number, and the others to its right half (a Beatty sequence and its complement). So draw x goes left if the floor grows
there, and that floor is its number among the draws on the left. Going down the tree, each draw finds its store and its
number there in O(log stores), without state. At each node the count is less than one off, so after x draws a store has
had x * weight of them, less or more by at most one and the depth of the tree.

Draw number d of a store with n rows is element d % n of its permutation number d // n.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from largeds_native.loading.order import MASK, Int64Array, Order

DENOMINATOR = 1 << 30  # of a share; so products with positions of a batch fit into 64 bits


class Mixed(Order):
    """Draws from several parts by weight, from each without replacement until it is used up.

    parts: the elements of each, at least one: a range, or an array of numbers.
    weights: a positive number for each.
    """

    name = "mixed"
    repeats = True

    def __init__(self, parts: Sequence[range | Int64Array], weights: Sequence[float], seed: int) -> None:
        super().__init__(sum(map(len, parts)))
        self._parts, self.seed = parts, seed
        self._ends = [Fraction(0)]  # exact sums, so that 0.7 beside 0.3 is 7/10 of both
        for weight in weights:
            relative = Fraction(weight) / Fraction(max(weights))
            self._ends.append(self._ends[-1] + relative.limit_denominator(DENOMINATOR))
        self._shares: dict[tuple[int, int], Fraction] = {}

    def elements(self, epoch: int, start: int, count: int) -> Int64Array:
        out = np.empty(count, np.int64)
        self._divide(0, len(self._parts), epoch * self.length + start, np.arange(count), out)
        return out

    def _divide(self, low: int, high: int, first: int, positions: Int64Array, out: Int64Array) -> None:
        """Fills `out` at `positions`, which are draws first, first + 1, ... of the parts low .. high - 1."""
        if not len(positions):
            return
        if high - low == 1:
            out[positions] = self._rows(low, first, len(positions))
            return
        middle, share = (low + high) // 2, self._share(low, high)
        periods, rest = divmod(first, share.denominator)
        floors = (rest + np.arange(len(positions) + 1)) * share.numerator // share.denominator
        left = np.diff(floors) == 1
        before = periods * share.numerator + int(floors[0])  # draws on the left before `first`
        self._divide(low, middle, before, positions[left], out)
        self._divide(middle, high, first - before, positions[~left], out)

    def _share(self, low: int, high: int) -> Fraction:
        """Of the left half of parts low .. high - 1 in all of them."""
        if (low, high) not in self._shares:
            whole, half = (self._ends[end] - self._ends[low] for end in (high, (low + high) // 2))
            self._shares[low, high] = (half / whole).limit_denominator(DENOMINATOR)
        return self._shares[low, high]

    def _rows(self, part: int, first: int, count: int) -> Int64Array:
        """The elements of the draws first .. first + count - 1 of a part."""
        from largeds_native import _C

        elements = self._parts[part]
        key = (self.seed + (part + 1) * 0x9E3779B97F4A7C15) & MASK
        drawn = []
        while count > 0:
            turn, start = divmod(first, len(elements))
            some = min(count, len(elements) - start)
            drawn.append(_C.permute(len(elements), key, turn & MASK, start, some))
            first, count = first + some, count - some
        numbers = np.concatenate(drawn)
        return elements.start + numbers if isinstance(elements, range) else elements[numbers]

    def candidates(self) -> Int64Array | None:
        if all(isinstance(part, range) for part in self._parts):
            return None
        return np.unique(np.concatenate([np.asarray(part, np.int64) for part in self._parts]))

    def describe(self) -> tuple[object, ...]:
        parts = [(part.start, part.stop) if isinstance(part, range) else zlib.crc32(part.data) for part in self._parts]
        return (*super().describe(), self.seed, parts, [str(end / self._ends[-1]) for end in self._ends[1:]])
