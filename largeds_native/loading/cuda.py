"""Batches on a CUDA device: copied from pinned memory on a side stream, one ahead, coloured and normalised there."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from largeds_native.loading.coloring import Coloring
from largeds_native.loading.cursor import Cursor, Progress
from largeds_native.loading.iterator import HostIterator, Parts, PositionedParts


@dataclass(frozen=True)
class DeviceFormat:
    """How the device converts the images of the host: `images * multiply + add` in `dtype`."""

    dtype: torch.dtype
    multiply: Sequence[float]
    add: Sequence[float]


class DeviceIterator:
    """A BatchSource that copies the host's batches to the device, the next one while the caller works on the current.

    A pinned slot is held until its copy is done. A delivered batch is ready for the stream that is current at that
    time. With `format` and `coloring` None, images are not changed. An error of the host is raised in the place of its
    batch.
    """

    def __init__(
        self,
        host: HostIterator,
        cursor: Cursor,
        device: torch.device,
        format: DeviceFormat | None,
        coloring: Coloring | None = None,
    ) -> None:
        self._host, self.device, self.format, self._coloring = host, device, format, coloring
        self._epoch, start = cursor.at
        self._stream: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        if format is not None:
            self._multiply, self._add = (
                torch.tensor(values, device=device).view(1, -1, 1, 1) for values in (format.multiply, format.add)
            )
            self._stream.wait_stream(torch.cuda.current_stream(device))  # for these two tensors
        self._copying: deque[tuple[Any, Parts]] = deque()  # slots whose copy may still be running
        self._sent: deque[tuple[Parts, Any, Progress]] = deque()  # copied or being copied, and not delivered
        self._after = start  # the progress of the caller
        self._error: Exception | None = None  # of the next batch; raised once the batches before it are delivered
        self._ended = False
        self._send(1)

    def take(self, after: Progress) -> PositionedParts:
        self._after = after
        while self._sent and self._sent[0][2].position <= after.position:
            del self._sent[0]
        self._send(2)
        if not self._sent:
            error, self._error = self._error, None
            raise error or StopIteration
        batch, ready, progress = self._sent[0]
        current = torch.cuda.current_stream(self.device)
        current.wait_event(ready)
        for part in batch:
            part.record_stream(current)
        return batch, progress

    def _send(self, count: int) -> None:
        """Starts copies until `count` batches are sent and not yet delivered."""
        while len(self._sent) < count and not self._ended and self._error is None:
            try:
                self._copy(*self._host.take(self._sent[-1][2] if self._sent else self._after))
            except StopIteration:  # noqa: PERF203
                self._ended = True
            except Exception as error:
                self._error = error

    def _copy(self, batch: Parts, progress: Progress) -> None:
        event: Any = torch.cuda.Event
        copied, ready = event(), event()
        with torch.cuda.stream(self._stream):
            parts = [part.to(self.device, non_blocking=True) for part in batch]
            copied.record(self._stream)
            sent = tuple(self._formatted(i, part) for i, part in enumerate(parts))
            ready.record(self._stream)
        self._copying.append((copied, batch))
        self._sent.append((sent, ready, progress))
        while self._copying and self._copying[0][0].query():
            self._copying.popleft()

    def _formatted(self, number: int, part: Tensor) -> Tensor:
        """The part of a batch with this number, coloured and normalised if it has images."""
        view = self._host.structure.view_of(number)
        if view is None:
            return part
        images = part
        if self._coloring is not None:
            images = self._coloring.apply(part, view, self._epoch, self._host.keys)
        if self.format is None:
            return images
        return torch.addcmul(self._add, images.to(torch.float32), self._multiply).to(self.format.dtype)
