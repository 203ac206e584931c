"""Exact channel mean and standard deviation, from integer sums, which do not depend on order and threads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt

from largeds_native._internal.arrays import Array
from largeds_native.store.metadata import MeanStd


@dataclass(frozen=True)
class Sums:
    """Number of uint8 values per channel, and for each channel their sum and the sum of their squares."""

    count: int
    total: tuple[int, ...]
    squares: tuple[int, ...]

    @classmethod
    def zero(cls, channels: int) -> Sums:
        return cls(0, (0,) * channels, (0,) * channels)

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.count + other.count,
            tuple(a + b for a, b in zip(self.total, other.total, strict=True)),
            tuple(a + b for a, b in zip(self.squares, other.squares, strict=True)),
        )


def sums_of(rows: Array, channels: int, planar: bool) -> Sums:
    """The sums of contiguous uint8 rows (n, row_bytes)."""
    from largeds_native import _C

    return Sums(*_C.channel_sums(rows, channels, planar))


def mean_std(parts: Iterable[Sums], channels: int) -> MeanStd | None:
    """(mean, std) per channel in [0, 1] units; None without pixels. The std is the population's, over all pixels."""
    sums = sum(parts, Sums.zero(channels))
    if not sums.count:
        return None
    n = sums.count
    mean = tuple(total / (255 * n) for total in sums.total)
    # n * squares - total**2 is exact in integers, where floats would lose digits by cancellation
    std = tuple(sqrt((n * s - t * t) / (n * n)) / 255 for t, s in zip(sums.total, sums.squares, strict=True))
    return mean, std
