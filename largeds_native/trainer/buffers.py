"""Snapshots of what a forward changes: buffers, such as BatchNorm's statistics, and the random state."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from largeds_native.trainer.gradients import INTEGERS
from largeds_native.trainer.random_state import RandomState


class BufferSnapshot:
    """Copies of the buffers, which a forward may change, to be restored later."""

    def __init__(self, model: nn.Module) -> None:
        self._buffers: list[Tensor] = list(model.buffers())
        self._values = [buffer.detach().clone() for buffer in self._buffers]

    @torch.no_grad()
    def restore(self) -> None:
        """Write the values back into the same tensors."""
        for buffer, value in zip(self._buffers, self._values, strict=True):
            buffer.copy_(value)

    @torch.no_grad()
    def restore_if(self, flag: Tensor) -> None:
        """`restore()` where the flag, a tensor of one element on the device, is 1; nothing is read.

        The bits of both are multiplied by 0 and 1 and added, as integers: three calls for all buffers of a size, while
        torch.where would be one for each. The values can't be restored again.
        """
        by_size: dict[int, tuple[list[Tensor], list[Tensor]]] = {}
        for buffer, value in zip(self._buffers, self._values, strict=True):
            integer = INTEGERS.get(buffer.dtype.itemsize)
            if integer is None or buffer.device != flag.device:
                buffer.copy_(torch.where(flag.to(buffer.device).bool(), value, buffer))
                continue
            now, before = by_size.setdefault(buffer.dtype.itemsize, ([], []))
            now.append(buffer.detach().view(integer))
            before.append(value.view(integer))
        for size, (now, before) in by_size.items():
            chosen = flag.to(INTEGERS[size])
            torch._foreach_mul_(now, 1 - chosen)
            torch._foreach_mul_(before, chosen)
            torch._foreach_add_(now, before)


class Snapshot:
    """What a forward changes besides gradients: buffers and the random state."""

    def __init__(self, model: nn.Module) -> None:
        self._buffers, self._random = BufferSnapshot(model), RandomState.now()

    def restore(self) -> None:
        """Restore everything."""
        self._buffers.restore()
        self._random.restore()
