"""One pass over an epoch: the batches that the C++ core fills ahead, delivered one after the other.

Note [Interrupts]
An exception may come at any moment: of a batch that can't be made, of a sampler, or of a signal handler, such as
Ctrl-C's KeyboardInterrupt while a batch is waited for. None of them may lose a batch, deliver one twice, or shift the
position of those that follow. So a batch stays in `HostIterator` until it is delivered; a plan that was broken off
begins again after the last batch that was submitted; and how many batches the core holds decides what was submitted.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from torch import Tensor

from largeds_native.errors import ArgumentError
from largeds_native.loading.cursor import Cursor, Progress
from largeds_native.loading.fields import CoreField
from largeds_native.loading.plan import OrderPlan, Planned, SamplerPlan

if TYPE_CHECKING:
    from largeds_native import _C

Batch = tuple[Tensor, ...]
Taken = tuple[Batch, Progress]  # a batch, and the progress after it


@dataclass(frozen=True)
class EpochSpec:
    """What an iterator must know to make an epoch's batches."""

    gather: _C.Gather
    fields: Sequence[CoreField]
    ring: _C.Ring
    pool: _C.Pool
    seed: int
    prefetch: int
    plan: OrderPlan | SamplerPlan


class HostIterator(Iterator[Taken]):
    """Batches in the CPU's memory, from `cursor` to the end of its epoch. See Note [Interrupts]."""

    def __init__(self, spec: EpochSpec, cursor: Cursor) -> None:
        from largeds_native import _C

        # not the spec: the pool's threads end with the last who holds it
        self._plan, self._seed, self._prefetch = spec.plan, spec.seed, spec.prefetch
        self._sample_bytes = spec.gather.sample_bytes
        self._epoch, self._submitted = cursor.at  # the progress after the last batch that was submitted
        self._core = _C.Prefetcher(spec.gather, spec.fields, spec.ring, spec.pool)
        self._batches = iter(self._core.next, None)
        self._upcoming: Iterator[Planned] | None = None  # of the plan, after what is submitted
        self._planned: Planned | None = None  # the last that it gave
        self._positions: deque[Progress] = deque()  # after each batch that is submitted and not delivered
        self._ready: deque[Batch] = deque()  # taken from the core and not delivered
        self._error: Exception | None = None  # of the plan, until the batches before it are delivered
        self._broken_off = False
        self._begun, self._last = time.perf_counter(), 0.0
        # called when this is dropped, and before the interpreter ends
        self.close = weakref.finalize(self, self._core.close)
        self._submit(spec.prefetch)

    def __next__(self) -> Taken:
        if self._broken_off:
            self._recover()
        self._broken_off = True
        if not self._positions:
            self._submit(1)  # without prefetch there is none yet
        if not self._positions:
            self._broken_off = False
            error, self._error = self._error, None
            raise error or StopIteration
        if not self._ready:
            # one call from the core into the deque: a signal's exception comes before or after it, and loses nothing
            self._ready.extend(islice(self._batches, 1))
            self._last = time.perf_counter()
        self._submit(self._prefetch + 1)  # the one in `_ready` is still counted
        taken = self._ready[0], self._positions[0]
        self._broken_off = False
        del self._ready[0], self._positions[0]
        return taken

    def _submit(self, count: int) -> None:
        """Submits batches until `count` of them are not delivered, or the epoch ends."""
        while len(self._positions) < count and self._error is None:
            upcoming = self._upcoming or self._plan.batches(self._epoch, self._submitted)
            self._upcoming = None  # while it is used: an exception may end it
            try:
                planned = next(upcoming, None)
                if planned is None:
                    self._upcoming = upcoming
                    return
                self._planned = planned
                self._core.submit(planned.samples, planned.keys, self._seed, self._epoch)
            except Exception as error:  # raised when it is this batch's turn
                self._error = error
                return
            self._submitted = planned.after
            self._positions.append(planned.after)
            self._upcoming = upcoming

    def _recover(self) -> None:
        """Makes the positions those of the batches that the core holds."""
        held = self._core.stats()["pending"] + len(self._ready)
        if held > len(self._positions) and self._planned is not None:  # broken off when it was submitted
            self._submitted = self._planned.after
            self._positions.append(self._submitted)
        elif held < len(self._positions):  # this batch could not be made, and its error was raised
            self._positions.popleft()

    def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = self._core.stats()
        seconds = (self._last or time.perf_counter()) - self._begun
        stats["images_per_second"] = stats["samples"] / seconds if seconds else 0.0
        stats["waiting_share"] = stats["waiting_seconds"] / seconds if seconds else 0.0
        stats["bytes"] = stats["samples"] * self._sample_bytes
        return stats


class BatchIterator(Iterator[Batch]):
    """What `iter(loader)` gives: the batches of `source`, which is `host` or takes from it.

    It advances `cursor` by each batch. Its threads end when it ends or is dropped, or its loader is closed.
    """

    def __init__(self, host: HostIterator, source: Iterator[Taken], cursor: Cursor) -> None:
        self._host, self._source, self._cursor = host, source, cursor
        self._epoch = cursor.epoch
        self._ended = False
        self._lock = threading.Lock()
        self.stats, self.close = host.stats, host.close

    def __next__(self) -> Batch:
        with self._lock:  # several threads may share an iterator
            if self._ended:
                raise StopIteration
            if not self._host.close.alive:
                raise ArgumentError("the loader was closed during this iteration")
            try:
                batch, progress = next(self._source)
            except StopIteration:
                self._ended = True
                self._host.close()
                self._cursor.at = (self._epoch + 1, Progress())
                raise
            self._cursor.at = (self._epoch, progress)
            return batch
