"""Going back to before a group that ran out of memory, as if it had not been tried."""

from __future__ import annotations

import gc

import torch
from torch import Tensor, nn

from largeds_native.trainer.random_state import RandomState


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is a lack of memory: of the GPU, of the CPU's allocator, or of a library's workspace."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    signs = ("DefaultCPUAllocator: can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(sign in text for sign in signs)


class Snapshot:
    """What a forward changes besides gradients: the module's buffers (BatchNorm's statistics) and the random state."""

    def __init__(self, model: nn.Module) -> None:
        self._buffers: list[tuple[Tensor, Tensor]] = [(b, b.detach().clone()) for b in model.buffers()]
        self._random = RandomState.now()

    def restore(self) -> None:
        """Put everything back, and give cached memory back to the device."""
        with torch.no_grad():
            for buffer, value in self._buffers:
                buffer.copy_(value)
        self._random.restore()
        gc.collect()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()
