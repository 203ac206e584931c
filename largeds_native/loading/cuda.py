"""Batches on a CUDA device: copied from pinned memory on a side stream, one ahead, and normalised there."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from largeds_native.loading.iterator import Batch, BatchIterator, Taken
from largeds_native.store.gather import BatchFormat

if TYPE_CHECKING:
    from largeds_native.loading.loader import Loader


class DeviceIterator(BatchIterator):
    """The host's batches on the device. The copy of the next one overlaps the work on the one delivered.

    A pinned slot is held until its copy is done; what is delivered is ready for the stream that is current then.
    """

    def __init__(self, loader: Loader, epoch: int, position: int, wanted: BatchFormat) -> None:
        super().__init__(loader, epoch, position)
        self.device, self.dtype = loader.device, wanted.dtype
        self.normalises = wanted.dtype is not loader.format.dtype
        self._multiply, self._add = (torch.tensor(v, device=self.device).view(1, -1, 1, 1) for v in wanted.scale)
        self._stream: Any = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        self._stream.wait_stream(torch.cuda.current_stream(self.device))  # for the two tensors
        self._copying: deque[tuple[Any, Batch]] = deque()  # slots whose copy may not be done
        self._ahead = self._send()

    def _send(self) -> tuple[Batch, Any, int] | None:
        """Starts the copy of the next batch."""
        taken = self.host.take()
        if taken is None:
            return None
        batch, after = taken
        event: Any = torch.cuda.Event
        copied, ready = event(), event()
        with torch.cuda.stream(self._stream):
            images, *fields = (part.to(self.device, non_blocking=True) for part in batch)
            copied.record(self._stream)
            sent = (self._normalised(images), *fields)
            ready.record(self._stream)
        self._copying.append((copied, batch))
        while self._copying[0][0].query():
            self._copying.popleft()
            if not self._copying:
                break
        return sent, ready, after

    def _normalised(self, images: Tensor) -> Tensor:
        if not self.normalises:
            return images
        return torch.addcmul(self._add, images.to(torch.float32), self._multiply).to(self.dtype)

    def _take(self) -> Taken | None:
        if self._ahead is None:
            return None
        sent, ready, after = self._ahead
        current = torch.cuda.current_stream(self.device)
        current.wait_event(ready)
        for part in sent:
            part.record_stream(current)
        self._ahead = self._send()
        return sent, after
