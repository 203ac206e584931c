"""How close encoded images are to the pixels that were encoded."""

from __future__ import annotations

from dataclasses import dataclass

MAX_PSNR = 100_000  # thousandths of a decibel, of equal images


@dataclass(frozen=True)
class Psnr:
    """Of `measured` images, in thousandths of a decibel: integers, so that sums don't depend on their order."""

    measured: int = 0
    total: int = 0
    smallest: int = MAX_PSNR

    def __add__(self, other: Psnr) -> Psnr:
        return Psnr(self.measured + other.measured, self.total + other.total, min(self.smallest, other.smallest))

    @property
    def mean_db(self) -> float:
        return self.total / max(self.measured, 1) / 1000

    @property
    def smallest_db(self) -> float:
        return self.smallest / 1000
