"""Snapshots of the buffers of a module, such as BatchNorm's statistics."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
