"""Going back to before a group that ran out of memory, as if it had not been tried."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import torch

from largeds_native.trainer.buffers import Buffers
from largeds_native.trainer.random_state import RandomState

if TYPE_CHECKING:
    from largeds_native.trainer.group import Group
    from largeds_native.trainer.trainer import Trainer


def until_it_fits(trainer: Trainer, group: Group) -> None:
    """Forward and backward of a group, again and again with half the micro-batch until they fit into memory."""
    before = Snapshot(trainer.model)
    while True:
        seen: list[tuple[Any, Any]] = []  # for the metrics, which must not count a failed attempt
        failed = ""
        try:
            for inputs, targets in group:
                outputs = trainer.micro_batch(group, inputs, targets)
                if trainer.train_metrics:
                    seen.append((outputs, targets))
                del inputs, targets, outputs
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            failed = str(error) or type(error).__name__
        if not any(trainer.ranks.max(float(bool(failed)))):
            break
        # outside of the except block: the traceback, and with it the failed forward's tensors, is gone
        size = trainer.accumulator.micro_batch or 1
        if size == 1:
            raise torch.OutOfMemoryError(f"a micro-batch of one sample does not fit: {failed or 'on another rank'}")
        group.restart(size // 2)
        before.restore()
    for outputs, targets in seen:
        trainer.train_metrics.update(outputs, targets)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is a lack of memory: of the GPU, of the CPU's allocator, or of a library's workspace."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    signs = ("DefaultCPUAllocator: can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(sign in text for sign in signs)


class Snapshot:
    """What a forward changes besides gradients: the module's buffers (BatchNorm's statistics) and the random state."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._buffers, self._random = Buffers(model), RandomState.now()

    def restore(self) -> None:
        """Put everything back, and give cached memory back to the device."""
        self._buffers.restore()
        self._random.restore()
        gc.collect()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()
