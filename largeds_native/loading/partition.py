"""Divides each global batch among the ranks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from largeds_native.errors import ArgumentError


@dataclass(frozen=True)
class Partition:
    """Divides global batches into `world_size` equal parts, one per rank.

    Every rank gets the same number of batches of the same sizes. If the size of the last global batch is not divisible
    by world_size, it is filled up with samples from the start of the epoch, at most world_size - 1 of them.
    """

    rank: int = 0
    world_size: int = 1

    @classmethod
    def resolve(cls, rank: int | None, world_size: int | None) -> Partition:
        """From `rank` and `world_size`; with neither, from torch.distributed if it is initialised, else one process."""
        if (rank is None) != (world_size is None):
            raise ArgumentError(f"expected rank and world_size together, found rank={rank}, world_size={world_size}")
        if rank is None or world_size is None:
            import torch.distributed as dist

            if not (dist.is_available() and dist.is_initialized()):
                return cls()
            rank, world_size = dist.get_rank(), dist.get_world_size()
        whole = isinstance(rank, (int, np.integer)) and isinstance(world_size, (int, np.integer))
        if not whole or world_size < 1 or not 0 <= rank < world_size:
            raise ArgumentError(f"rank: expected 0 to world_size - 1, found rank={rank!r}, world_size={world_size!r}")
        return cls(int(rank), int(world_size))

    def batches(self, length: int, start: int, size: int, drop_last: bool) -> Iterator[tuple[int, int, int]]:
        """(first position, count, positions seen by all ranks after it) of each batch from position `start` on."""
        global_size = size * self.world_size
        while length - start >= global_size:
            yield start + self.rank * size, size, start + global_size
            start += global_size
        if start < length and not drop_last:
            each = -(-(length - start) // self.world_size)
            yield start + self.rank * each, each, length

    def padding(self, length: int, size: int, drop_last: bool) -> int:
        """Of this rank's samples in the last of the batches over `length` positions, those that fill it up."""
        rest = length % (size * self.world_size)
        if rest == 0 or drop_last:
            return 0
        each = -(-rest // self.world_size)
        return min(each, max(0, (self.rank + 1) * each - rest))

    def count(self, length: int, size: int, drop_last: bool) -> int:
        """Number of batches in `length` positions, the same for every rank."""
        global_size = size * self.world_size
        return length // global_size if drop_last else -(-length // global_size)
