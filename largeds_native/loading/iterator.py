"""One pass over a loader's epoch."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor

from largeds_native.errors import ArgumentError

if TYPE_CHECKING:
    from largeds_native.loading.loader import Loader

Batch = tuple[Tensor, ...]
Taken = tuple[Batch, int]  # and the position after it


class HostBatches:
    """Batches in the CPU's memory, made ahead in C++: `take()` gives the next and the position after it, or None."""

    def __init__(self, loader: Loader, epoch: int, position: int) -> None:
        from largeds_native import _C

        assert loader.pool is not None  # it is not closed
        self._core = _C.Prefetcher(loader.format.gather, loader.core_fields, loader.ring, loader.pool)
        self._plan = loader.plan.batches(epoch, position)
        self._sample_bytes = loader.format.gather.sample_bytes
        self._begun, self._last = time.perf_counter(), 0.0
        self._seed, self._epoch, self._prefetch = loader.seed, epoch, loader.prefetch
        self._submitted: deque[int] = deque()  # position after each batch that is not yet delivered
        # when it is dropped, and before the interpreter's end
        self.close = weakref.finalize(self, self._core.close)
        self._submit(self._prefetch)

    def _submit(self, wanted: int) -> None:
        while len(self._submitted) < wanted and (planned := next(self._plan, None)) is not None:
            self._core.submit(planned.samples, planned.keys, self._seed, self._epoch)
            self._submitted.append(planned.after)

    def take(self) -> Taken | None:
        self._submit(1)  # without prefetch there is none yet
        if not self._submitted:
            return None
        after = self._submitted.popleft()
        batch: Batch = self._core.next()
        self._last = time.perf_counter()
        self._submit(self._prefetch)
        return batch, after

    def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = self._core.stats()
        seconds = (self._last or time.perf_counter()) - self._begun
        stats["images_per_second"] = stats["samples"] / seconds if seconds else 0.0
        stats["waiting_share"] = stats["waiting_seconds"] / seconds if seconds else 0.0
        stats["bytes"] = stats["samples"] * self._sample_bytes
        return stats


class BatchIterator(Iterator[Batch]):
    """What `iter(loader)` gives. Its threads end when it ends or is dropped, or its loader is closed."""

    def __init__(self, loader: Loader, epoch: int, position: int) -> None:
        self.loader, self.epoch = loader, epoch
        self.host = HostBatches(loader, epoch, position)
        self._ended = False
        self._turn = threading.Lock()

    def _take(self) -> Taken | None:
        return self.host.take()

    def __next__(self) -> Batch:
        with self._turn:  # several threads may share an iterator
            return self._following()

    def _following(self) -> Batch:
        if self._ended:
            raise StopIteration
        if not self.host.close.alive:
            raise ArgumentError("the loader was closed during this iteration")
        taken = self._take()
        if taken is None:
            self._ended = True
            self.host.close()
            self.loader._reached(self, self.epoch + 1, 0)
            raise StopIteration
        batch, after = taken
        self.loader._reached(self, self.epoch, after)
        return batch
