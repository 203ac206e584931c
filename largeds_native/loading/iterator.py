"""One pass over an epoch: the C++ core fills batches ahead, and the iterators here deliver them in order.

Note [Interrupts]
An exception may be raised at any moment: by a batch that can't be filled, by a sampler, or by a signal handler, such as
Ctrl-C's KeyboardInterrupt during the wait for a batch. No exception may lose a batch, deliver one twice, or shift the
position of later batches. So a batch stays in `HostIterator` until the next
call says, by the position of its caller, that it arrived; after an interrupt, the plan is
started again behind the last submitted batch; and the number of batches that the core holds tells which one that is.
"""

from __future__ import annotations

import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from largeds_native.errors import ArgumentError
from largeds_native.loading.batch_structure import BatchStructure
from largeds_native.loading.cursor import NOTHING, Cursor, Progress
from largeds_native.loading.fetching import Fetcher, ShardNumbers, batches_ahead
from largeds_native.loading.fields import CoreField
from largeds_native.loading.plan import OrderPlan, PlannedBatch, SamplerPlan

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from largeds_native import _C

Parts = tuple[Tensor, ...]  # of a batch: the images of each view, then the fields
Batch = Any  # a tuple (images, *fields), or a dict of them
PositionedParts = tuple[Parts, Progress]  # those of a batch, and the progress after it


@dataclass(frozen=True)
class EpochSpec:
    """Everything that an iterator needs to produce the batches of an epoch."""

    gather: _C.Gather
    fields: Sequence[CoreField]
    ring: _C.Ring
    pool: _C.Pool
    seed: int
    prefetch: int
    plan: OrderPlan | SamplerPlan
    structure: BatchStructure
    image_bytes: int  # of a sample
    skips_damaged: bool = False
    to_fetch: ShardNumbers | None = None  # of a store in object storage
    at_once: int = 0  # batches filled at the same time; 0: as many as keep the pool's threads busy


class BatchSource(Protocol):
    """Batches in order, which stay here until their receiver has said that it has them. See Note [Interrupts]."""

    def take(self, after: Progress) -> PositionedParts:
        """The first batch after `after`, which is the progress after the last batch that the caller has. Raises
        StopIteration at the end of the epoch."""

    def stats(self) -> dict[str, Any]: ...


class HostIterator:
    """A BatchSource in CPU memory, from `cursor` to the end of its epoch."""

    def __init__(self, spec: EpochSpec, cursor: Cursor) -> None:
        from largeds_native import _C

        # don't keep the spec: it holds the pool, whose threads end when nothing refers to it any more
        self._plan, self._seed, self._prefetch = spec.plan, spec.seed, spec.prefetch
        self._sample_bytes = spec.image_bytes
        self._epoch, self._submitted = cursor.at  # the progress after the last batch that was submitted
        self._core = _C.Prefetcher(spec.gather, spec.fields, spec.ring, spec.pool, spec.at_once)
        self._batches = iter(self._core.next, None)
        # the plan's batches after the last submitted one, and before them one whose shards are not here yet
        self._upcoming: tuple[PlannedBatch | None, Iterator[PlannedBatch]] | None = None
        self._planned: PlannedBatch | None = None  # the last batch that the plan gave
        self._pending: deque[PlannedBatch] = deque()  # submitted, and not delivered
        self._ready: deque[Parts] = deque()  # taken from the core, not yet delivered
        self._error: Exception | None = None  # of the plan; raised once earlier batches are delivered
        self._interrupted = False
        self._skips_damaged = spec.skips_damaged
        self.structure = spec.structure
        self._started, self._last = time.perf_counter(), 0.0
        self._fetcher: Fetcher | None = None
        if spec.to_fetch is not None:
            self._fetcher = Fetcher(spec.to_fetch, batches_ahead(self._plan, self._epoch, self._submitted))
        # runs when this object is garbage collected, and before the interpreter exits
        # without a fetcher, it is one call that no signal handler can interrupt
        fetcher, close = self._fetcher, self._core.close
        self.close = weakref.finalize(self, close if fetcher is None else partial(fetcher.close, close))
        self._submit(spec.prefetch)

    def end(self) -> None:
        """Closes, and waits until the threads have ended."""
        self.close()
        if self._fetcher is not None:
            self._fetcher.join()

    def take(self, after: Progress) -> PositionedParts:
        if self._interrupted:
            self._recover()
        self._interrupted = True
        while self._ready and self._pending[0].after.position <= after.position:
            del self._ready[0], self._pending[0]
        if not self._pending:
            self._submit(1)  # with prefetch=0, nothing has been submitted yet
        while not self._pending and self._awaits_shards:
            assert self._fetcher is not None
            self._fetcher.delivered(after.position)  # the last batch may hold the room that the next one needs
            self._fetcher.wait()
            self._submit(1)
        if not self._pending:
            self._interrupted = False
            error, self._error = self._error, None
            raise error or StopIteration
        if not self._ready:
            # a single C call moves the batch from the core to the deque, so that a signal handler can't run in between
            self._ready.extend(islice(self._batches, 1))
            self._last = time.perf_counter()
            if self._skips_damaged:
                self._warn_of_damage()
        self._submit(self._prefetch + 1)  # the one in `_ready` is still counted
        if self._fetcher is not None:
            self._fetcher.delivered(after.position)
        taken = self._ready[0], self._pending[0].after
        self._interrupted = False
        return taken

    @property
    def has_ready(self) -> bool:
        """Whether a batch behind the one that `take` returned last is filled, so that `take` would not wait."""
        return bool(self._core.stats()["ready"])

    @property
    def samples(self) -> NDArray[np.int64]:
        """The rows of the batch that `take` returned last."""
        return self._pending[0].samples

    @property
    def keys(self) -> NDArray[np.int64]:
        """Of the random draws of each sample in the batch that `take` returned last."""
        planned = self._pending[0]
        return planned.samples if planned.keys is None else planned.keys

    def _submit(self, count: int) -> None:
        """Submits batches until `count` of them are undelivered, the epoch ends, or shards of the next are missing."""
        while len(self._pending) < count and self._error is None:
            planned, upcoming = self._upcoming or (None, self._plan.batches(self._epoch, self._submitted))
            self._upcoming = None  # an exception ends a generator, so it is kept only if `next` succeeds
            try:
                planned = planned or next(upcoming, None)
                if planned is None or not self._has_shards(planned):
                    self._upcoming = (planned, upcoming)
                    return
                self._planned = planned
                self._core.submit(planned.samples, planned.keys, self._seed, self._epoch)
            except Exception as error:  # raised in the place of this batch
                self._error = error
                return
            self._submitted = planned.after
            self._pending.append(planned)
            self._upcoming = (None, upcoming)

    def _has_shards(self, planned: PlannedBatch) -> bool:
        fetcher = self._fetcher
        return fetcher is None or fetcher.complete or fetcher.pin(planned.samples, planned.after.position)

    @property
    def _awaits_shards(self) -> bool:
        return self._upcoming is not None and self._upcoming[0] is not None and self._error is None

    def _recover(self) -> None:
        """After an interrupt: makes `_pending` match the batches that the core holds."""
        held = self._core.stats()["pending"] + len(self._ready)
        if held > len(self._pending) and self._planned is not None:  # interrupted right after `submit`
            self._submitted = self._planned.after
            self._pending.append(self._planned)
        elif held < len(self._pending):  # the batch failed, and its error was raised
            self._pending.popleft()

    def _warn_of_damage(self) -> None:
        """Once for each iteration."""
        if damage := self._core.stats()["damage"]:
            self._skips_damaged = False
            warnings.warn(
                f"a row is replaced by the next one that can be decoded, as on_damage='skip' says: {damage}. "
                "loader.stats()['replaced'] counts them",
                RuntimeWarning,
                stacklevel=2,
            )

    def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = self._core.stats()
        seconds = (self._last or time.perf_counter()) - self._started
        stats["images_per_second"] = stats["samples"] / seconds if seconds else 0.0
        stats["waiting_share"] = stats["waiting_seconds"] / seconds if seconds else 0.0
        stats["bytes"] = stats["samples"] * self._sample_bytes
        if self._fetcher is not None:
            stats |= self._fetcher.stats()
        return stats


class BatchIterator(Iterator[Batch]):
    """What `iter(loader)` returns: the batches of `source`, which is `host` or reads from it.

    Each batch advances `cursor`. The threads end when the iterator ends or is garbage collected, or its loader is
    closed.
    """

    def __init__(self, host: HostIterator, source: BatchSource, cursor: Cursor, final_stats: dict[str, Any]) -> None:
        self._host, self._source, self._cursor = host, source, cursor
        self._final_stats = final_stats  # filled at the end of the epoch
        self._epoch = cursor.epoch
        self._ended = False
        self._lock = threading.Lock()
        self._structure = host.structure
        self.stats, self.close = source.stats, host.end

    def __next__(self) -> Batch:
        before = after = self._cursor.at
        try:
            with self._lock:  # several threads may share an iterator
                before = self._cursor.at
                parts, progress = self._take(before[1])
                batch = self._structure.batch(parts)
                after = self._cursor.at = (self._epoch, progress)
            return batch
        except BaseException:
            if after is not before and self._cursor.at is after:  # interrupted after the cursor was moved
                self._cursor.at = before
            raise

    def _take(self, after: Progress) -> PositionedParts:
        if self._ended:
            raise StopIteration
        if not self._host.close.alive:
            raise ArgumentError("the loader was closed during this iteration")
        try:
            return self._source.take(after)
        except StopIteration:
            self._ended = True
            self._final_stats |= self.stats()
            self._cursor.at = (self._epoch + 1, NOTHING)
            self._host.end()
            raise
