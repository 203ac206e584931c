"""Exact channel mean and standard deviation, from integer sums, which do not depend on order and threads."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import sqrt

import numpy as np

from largeds_native._internal.arrays import Array
from largeds_native._internal.machine import usable_threads
from largeds_native.store.metadata import MeanStd, range_of

BLOCK_BYTES = 32 << 20  # that a thread sums up at once


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


def sums_of_files(files: Iterable[Array], row_bytes: int, channels: int, planar: bool) -> list[Sums]:
    """Of mapped uint8 images, block by block in threads."""

    def blocks() -> Iterable[Array]:
        step = max(1, BLOCK_BYTES // row_bytes)
        for images in files:
            rows = images.reshape(-1, row_bytes)
            yield from (rows[low : low + step] for low in range(0, len(rows), step))

    pool = ThreadPoolExecutor(usable_threads())
    try:
        return list(pool.map(lambda rows: sums_of(np.ascontiguousarray(rows), channels, planar), blocks()))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C must not wait for the rest of the file


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


def wide_mean_std(files: Iterable[Array], channels: int, planar: bool) -> MeanStd | None:
    """(mean, std) per channel of images of any dtype, in units of its range; None without pixels. Integers are summed
    exactly, floats in float64, by the sums of deviations from each block's mean (Chan's parallel algorithm)."""
    n, total, squares, top = 0, [0] * channels, [0] * channels, 1
    mean, deviations, floats = np.zeros(channels), np.zeros(channels), False
    for images in files:
        top, floats = range_of(images.dtype), images.dtype.kind == "f"
        shaped = images.reshape(-1, *images.shape[-3:])
        step = max(1, BLOCK_BYTES // 8 // max(1, shaped[0].size if len(shaped) else 1))
        for low in range(0, len(shaped), step):
            block = np.moveaxis(shaped[low : low + step], 1 if planar else 3, 0).reshape(channels, -1)
            count = block.shape[1]
            if floats:
                values = block.astype(np.float64)
                means = values.mean(1)
                delta = means - mean
                deviations += ((values - means[:, None]) ** 2).sum(1) + delta**2 * (n * count / (n + count))
                mean += delta * (count / (n + count))
            else:  # the squares of a block fit 63 bits: 32 bits each, of at most 2^25 values
                values = block.astype(np.int64)
                total = [a + int(b) for a, b in zip(total, values.sum(1), strict=True)]
                squares = [a + int(b) for a, b in zip(squares, (values * values).sum(1), strict=True)]
            n += count
    if not n:
        return None
    if floats:
        return tuple(mean.tolist()), tuple(np.sqrt(deviations / n).tolist())
    std = tuple(sqrt((n * s - t * t) / (n * n)) / top for t, s in zip(total, squares, strict=True))
    return tuple(t / (top * n) for t in total), std
