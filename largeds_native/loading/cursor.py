"""The position in an epoch at which the next batch begins."""

from __future__ import annotations


class Cursor:
    """An epoch and a position in it: samples over all ranks, or batches of a batch sampler.

    An iterator advances it after each batch that it delivers, and its loader reads it. Both numbers change in one
    assignment, so that another thread or a signal handler never sees one of them without the other.
    """

    __slots__ = ("at",)

    def __init__(self, epoch: int = 0, position: int = 0) -> None:
        self.at = (epoch, position)

    @property
    def epoch(self) -> int:
        return self.at[0]

    @property
    def position(self) -> int:
        return self.at[1]
