"""Which part of each global batch belongs to this process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from largeds_native.errors import ArgumentError


@dataclass(frozen=True)
class Partition:
    """Global batches of `world_size` equal parts, one a rank.

    Every rank makes the same number of batches of the same sizes. Where the last global batch does not divide by
    world_size, it is filled up with samples from the epoch's start, at most world_size - 1 of them.
    """

    rank: int = 0
    world_size: int = 1

    @classmethod
    def found(cls, rank: int | None, world_size: int | None) -> Partition:
        """As given, both or neither; else torch.distributed's where it is initialised; else one process."""
        if (rank is None) != (world_size is None):
            raise ArgumentError(f"expected rank and world_size together, found rank={rank}, world_size={world_size}")
        if rank is None or world_size is None:
            import torch.distributed as dist

            if not (dist.is_available() and dist.is_initialized()):
                return cls()
            rank, world_size = dist.get_rank(), dist.get_world_size()
        if world_size < 1 or not 0 <= rank < world_size:
            raise ArgumentError(f"rank: expected 0 to world_size - 1, found rank={rank}, world_size={world_size}")
        return cls(rank, world_size)

    def batches(self, length: int, start: int, size: int, drop_last: bool) -> Iterator[tuple[int, int, int]]:
        """(first position, count, positions that all ranks have then seen) for each batch from position `start` on."""
        together = size * self.world_size
        while length - start >= together:
            yield start + self.rank * size, size, start + together
            start += together
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
        """Batches of `length` positions, the same for every rank."""
        together = size * self.world_size
        return length // together if drop_last else -(-length // together)
