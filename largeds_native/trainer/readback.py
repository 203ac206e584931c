"""Numbers on their way from the device: copied to pinned memory without waiting, and read when they are there.

Note [Waiting]
`tensor.item()` waits until the device has done all that it was given, and then the device waits for Python. So a step
on a device of DEFERRED types reads nothing: its numbers are copied behind its work, an event is recorded behind the
copy, and whoever reads them waits for that event alone. The work of the next step is queued by then, so that the device
does not run out of it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

DEFERRED = frozenset({"cuda"})  # types of devices whose numbers are read later; all others are read at once


def defers(device: torch.device) -> bool:
    """Whether numbers on this device are read later."""
    return device.type in DEFERRED


class PinnedBuffers:
    """Pinned memory for a few numbers, used again when they have been read."""

    def __init__(self) -> None:
        self._free: dict[tuple[torch.dtype, int], list[Tensor]] = {}

    def take(self, values: Tensor) -> Tensor:
        """A buffer like the values, in pinned memory if they are on a CUDA device."""
        free = self._free.get((values.dtype, values.numel()))
        if free:
            return free.pop()
        return torch.empty(values.numel(), dtype=values.dtype, pin_memory=values.device.type == "cuda")

    def give_back(self, buffer: Tensor) -> None:
        """The buffer may be overwritten."""
        self._free.setdefault((buffer.dtype, buffer.numel()), []).append(buffer)


class Readback:
    """The values of a tensor of one dimension, copied to the host now, without waiting."""

    __slots__ = ("_buffer", "_buffers", "_event", "_numbers")

    def __init__(self, values: Tensor, buffers: PinnedBuffers) -> None:
        self._buffers = buffers
        self._numbers: list[float] | None = None
        self._buffer = buffers.take(values)
        self._buffer.copy_(values, non_blocking=True)
        self._event: Any = None
        if values.device.type == "cuda":
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record(torch.cuda.current_stream(values.device))

    @property
    def ready(self) -> bool:
        """Whether `read` does not wait."""
        if self._numbers is None and self._event is not None and self._event.query():
            self._take()
        return self._numbers is not None

    def read(self) -> list[float]:
        """The values; waits for what the device had been given before this object was made."""
        if self._numbers is None:
            if self._event is not None:
                self._event.synchronize()
            self._take()
        assert self._numbers is not None
        return self._numbers

    def _take(self) -> None:
        self._numbers = self._buffer.tolist()
        self._buffers.give_back(self._buffer)
