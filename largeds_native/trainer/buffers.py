"""Snapshots of what a forward changes: buffers, such as BatchNorm's statistics, and the random state."""

from __future__ import annotations

import torch
from torch import Tensor, nn

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


class Snapshot:
    """What a forward changes besides gradients: buffers and the random state."""

    def __init__(self, model: nn.Module) -> None:
        self._buffers, self._random = BufferSnapshot(model), RandomState.now()

    def restore(self) -> None:
        """Restore everything."""
        self._buffers.restore()
        self._random.restore()
