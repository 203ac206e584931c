"""Batches on a CUDA device: copied from pinned memory on a side stream, ahead, and normalised in the caller's stream.

The pinned memory is the host's batches; or, of the images, the rows of the store themselves.

Note [Streams]
A batch is copied into a slot of device memory that belongs to the side stream alone, so a copy waits for nothing but
the last reader of its slot. When the batch is delivered, one kernel in the caller's stream reads the slot and writes
the tensors that the caller gets. These are the caller's stream's own, as if its own code had made them: torch reuses
their memory without events between streams, and `record_stream` works if the caller takes them to another stream.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from largeds_native.loading.coloring import Coloring
from largeds_native.loading.cursor import Cursor, Progress
from largeds_native.loading.iterator import HostIterator, Parts, PositionedParts
from largeds_native.loading.normalise import Normalise
from largeds_native.loading.pinned_rows import RowImages

# Batches that are copied, or being copied, behind the delivered one: so that the copies run without a gap.
AHEAD = 2
# Batches whose pinned memory waits for its copy. If the caller queues its work so far ahead of the device that there
# would be more, it waits for the device.
MOST_COPYING = 4


@dataclass
class _Slot:
    """Device memory for one batch, used again and again."""

    memory: list[Tensor] = field(default_factory=list)  # a tensor for each part
    parts: Parts = ()  # `memory`, or the same in colour
    copied: Any = None  # event of the side stream: the parts are there
    read: Any = None  # event of the caller's stream: the parts were read

    def fit(self, like: Sequence[Tensor], device: torch.device) -> list[Tensor]:
        """The memory, of tensors like these."""
        if [(one.shape, one.stride()) for one in self.memory] != [(one.shape, one.stride()) for one in like]:
            self.parts, self.memory = (), []  # freed before the new memory is asked for
            with torch.inference_mode(False):  # the iterator may go on outside of the mode in which it began
                self.memory = [torch.empty_like(one, device=device) for one in like]
        return self.memory


class DeviceIterator:
    """A BatchSource that copies the host's batches to the device while the caller works on the ones before.

    A pinned slot is held until its copy is done. A delivered batch is ready for the stream that is current then. With
    `normalise` and `coloring` None, images are not changed. With `rows`, the host's batches have no images, which come
    from the rows. An error of the host is raised in the place of its batch. See Note [Streams].
    """

    def __init__(
        self,
        host: HostIterator,
        cursor: Cursor,
        device: torch.device,
        normalise: Normalise | None,
        coloring: Coloring | None,
        stream: Any,
        rows: RowImages | None = None,
    ) -> None:
        self._host, self.device, self._normalise, self._coloring = host, device, normalise, coloring
        self._epoch, self._after = cursor.at  # the progress of the caller
        self._rows = rows
        self._stream = stream  # for copies; of the loader, so that the next iteration finds the memory of this one
        self._slots: list[_Slot] = []
        self._sent: deque[tuple[_Slot, Progress]] = deque()  # copied or being copied, and not delivered
        # pinned memory whose copy may still be running
        self._copying: deque[tuple[Any, tuple[Parts, RowImages | None]]] = deque()
        # the ring would fill the memory again while the device still reads it
        weakref.finalize(self, _wait_for_copies, self._copying)
        self._copies, self._waits = _Stopwatch(), _Stopwatch()
        self._copied_bytes = 0
        self._error: Exception | None = None  # of the next batch; raised once the batches before it are delivered
        self._ended = False

    def take(self, after: Progress) -> PositionedParts:
        self._after = after
        while self._sent and self._sent[0][1].position <= after.position:
            del self._sent[0]
        with torch.cuda.device(self.device):
            self._send()
            if not self._sent:
                error, self._error = self._error, None
                raise error or StopIteration
            slot, progress = self._sent[0]
            return self._delivered(slot), progress

    def stats(self) -> dict[str, Any]:
        return self._host.stats() | {
            "copied_bytes": self._copied_bytes,
            "copy_seconds": self._copies.seconds(),
            "device_waiting_seconds": self._waits.seconds(),
            "device_kernel": next((one.kernel for one in (self._normalise, self._rows) if one is not None), None),
        }

    def _send(self) -> None:
        """Starts the copies of the next batch, for which it waits, and of those behind it that are filled already."""
        while len(self._sent) <= AHEAD and not self._ended and self._error is None:
            if self._sent and not self._host.has_ready:
                break
            try:
                self._copy(*self._host.take(self._sent[-1][1] if self._sent else self._after))
            except StopIteration:
                self._ended = True
            except torch.OutOfMemoryError as error:
                if self._sent:
                    break  # tried again when the batch is asked for
                self._error = self._no_memory(error)
            except Exception as error:
                self._error = error
        while self._copying and self._copying[0][0].query():
            del self._copying[0]
        if len(self._copying) > MOST_COPYING:
            self._copying[0][0].synchronize()

    def _copy(self, batch: Parts, progress: Progress) -> None:
        slot, rows, samples = self._idle_slot(), self._rows, self._host.samples
        sources = [] if rows is None else rows.sources(samples, self._host.keys, self._epoch)
        with torch.cuda.stream(self._stream):
            if slot.read is not None:
                self._stream.wait_event(slot.read)
            memory = slot.fit([*sources, *batch], self.device)
            copied, images = memory[len(sources) :], []
            with self._copies.measure(self._stream):
                # at once, since an error may come when a part of it is being copied
                self._copying.append((self._copies.end, (batch, rows)))
                if rows is not None:
                    images = rows.fill(memory[: len(sources)], sources, samples, self._stream)
                for part, there in zip(batch, copied, strict=True):
                    there.copy_(part, non_blocking=True)
            slot.copied, slot.parts = self._copies.end, (*images, *copied)
            if (coloring := self._coloring) is not None:
                slot.parts = tuple(self._colored(coloring, i, part) for i, part in enumerate(slot.parts))
                slot.copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
                slot.copied.record(self._stream)
        self._copied_bytes += sum(part.nbytes for part in batch) + (rows.row_bytes * len(samples) if rows else 0)
        self._sent.append((slot, progress))

    def _idle_slot(self) -> _Slot:
        for slot in self._slots:
            if all(slot is not sent for sent, _ in self._sent):
                return slot
        self._slots.append(_Slot())
        return self._slots[-1]

    def _no_memory(self, error: torch.OutOfMemoryError) -> torch.OutOfMemoryError:
        return torch.OutOfMemoryError(
            f"no memory on {self.device} for a batch of the loader, which holds {AHEAD + 1} there beside those of the "
            f"caller: make batch_size smaller, or leave more memory free. {error}"
        )

    def _colored(self, coloring: Coloring, number: int, part: Tensor) -> Tensor:
        """The part of a batch with this number, in colour if it has images."""
        view = self._host.structure.view_of(number)
        return part if view is None else coloring.apply(part, view, self._epoch, self._host.keys)

    def _delivered(self, slot: _Slot) -> Parts:
        """The batch in tensors of the current stream, which waits for its copy if that is not done."""
        current = torch.cuda.current_stream(self.device)
        if not slot.copied.query():
            with self._waits.measure(current):
                current.wait_event(slot.copied)
        for part in slot.parts:
            part.record_stream(current)  # if this iterator ends, its memory is not free before it was read
        parts = tuple(self._converted(i, part) for i, part in enumerate(slot.parts))
        slot.read = slot.read or torch.cuda.Event()  # type: ignore[no-untyped-call]
        slot.read.record(current)
        return parts

    def _converted(self, number: int, part: Tensor) -> Tensor:
        if self._normalise is None or self._host.structure.view_of(number) is None:
            return part.clone()
        return self._normalise(part)


def _wait_for_copies(copying: deque[tuple[Any, Any]]) -> None:
    while copying:
        copying[0][0].synchronize()
        del copying[0]


class _Stopwatch:
    """Sums the time that a stream spends in some of its work. Never waits for the device."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._running: deque[tuple[Any, Any]] = deque()

    def measure(self, stream: Any) -> _Stopwatch:
        self._stream = stream
        return self

    def __enter__(self) -> None:
        self.seconds()
        event: Any = torch.cuda.Event
        start, self.end = event(enable_timing=True), event(enable_timing=True)
        start.record(self._stream)
        self._running.append((start, self.end))

    def __exit__(self, *_: object) -> None:
        self.end.record(self._stream)

    def seconds(self) -> float:
        """Of the work that is done."""
        while self._running and self._running[0][1].query():
            start, end = self._running.popleft()
            self._sum += start.elapsed_time(end) / 1000
        return self._sum
