"""The position in an epoch at which the next batch begins."""

from __future__ import annotations

from typing import NamedTuple


class Progress(NamedTuple):
    """What of an epoch was delivered: samples over all ranks, or batches of a batch sampler.

    digest: a checksum of what a sampler gave so far, to tell on resume whether it gives the same again; 0 for the
    loader's own orders, which are functions.
    """

    position: int = 0
    digest: int = 0


NOTHING = Progress()


class Cursor:
    """An epoch and the progress in it.

    An iterator advances it after each batch that it delivers, and its loader reads it. Both change in one assignment,
    so that another thread or a signal handler never sees one of them without the other.
    """

    __slots__ = ("at",)

    def __init__(self, epoch: int = 0, progress: Progress = NOTHING) -> None:
        self.at = (epoch, progress)

    @property
    def epoch(self) -> int:
        return self.at[0]

    @property
    def position(self) -> int:
        return self.at[1].position
