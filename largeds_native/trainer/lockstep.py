"""Equally many micro-batches on every rank, where each forward is a collective call.

The ranks tell each other how many micro-batches they make of a loader's batch, and whether another batch follows: one
exchange of three numbers over gloo for each batch of the loader. A rank that has fewer runs a stand-in for each that it
lacks: two samples that weigh nothing, are in no metric, and leave buffers and random state as they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from largeds_native.trainer import batches
from largeds_native.trainer.buffers import Snapshot
from largeds_native.trainer.ranks import Ranks

Pair = tuple[Any, Any]
STAND_IN = 2  # samples: BatchNorm refuses a single one


class Lockstep:
    """One pass over a loader. All of its methods but `stand_in` are collective calls."""

    def __init__(self, ranks: Ranks, model: nn.Module, device: torch.device | None) -> None:
        self._ranks, self._model, self._device = ranks, model, device
        self._stand_in: Pair | None = None
        self._before: Snapshot | None = None

    def batches(self, own: Iterator[Pair], micro_batch: int | None) -> Iterator[tuple[Pair | None, int, bool]]:
        """Yields (this rank's batch or None, micro-batches to run, whether it is the last), one ahead of the loader."""
        pair = next(own, None)
        while True:
            upcoming = None if pair is None else next(own, None)
            most, more, lacking = self._ranks.max(
                count(pair, micro_batch), float(upcoming is not None), float(not self._remembers(pair))
            )
            if lacking and most:
                self._share()
            yield pair, int(most), not more
            if not more:
                return
            pair = upcoming
            del upcoming

    def _remembers(self, pair: Pair | None) -> bool:
        """Whether this rank has samples for a stand-in; those of its first batch are copied."""
        if self._stand_in is None and pair is not None and batches.length(pair):
            few = batches.narrow(pair, 0, min(STAND_IN, batches.length(pair)))
            self._stand_in = batches.copy_of(few)
        return self._stand_in is not None

    def _share(self) -> None:
        """A rank that never had a sample takes those of another one."""
        on_cpu = batches.to_device(self._stand_in, torch.device("cpu"))
        known = [pair for pair in self._ranks.gather(on_cpu) if pair is not None]
        if self._stand_in is None and known:
            self._stand_in = known[0]

    def stand_in(self) -> Pair:
        """The samples for a micro-batch that counts nothing. Call `done` after it."""
        assert self._stand_in is not None
        self._before = Snapshot(self._model)
        device = self._device or next(self._model.parameters()).device
        pair: Pair = batches.to_device(self._stand_in, device)
        return pair

    def done(self) -> None:
        """The stand-in has run."""
        if self._before is not None:
            self._before.restore()
            self._before = None


def count(pair: Pair | None, micro_batch: int | None) -> int:
    """Of a batch's micro-batches."""
    length = 0 if pair is None else batches.length(pair)
    return -(-length // (micro_batch or length)) if length else 0
