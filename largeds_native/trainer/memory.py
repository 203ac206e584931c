"""Going back to before a group that ran out of memory, as if it had not been tried."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch

from largeds_native.trainer.accumulation import Accumulator, Group
from largeds_native.trainer.buffers import Buffers
from largeds_native.trainer.random_state import RandomState

_SIGNS = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "std::bad_alloc",
    "could not create a primitive",  # oneDNN's words, when its workspace or its code finds no room
    "could not create a memory object",
)
Record = Callable[[Any, Any], None]  # takes the outputs and targets of a micro-batch


def until_it_fits(
    group: Group, accumulator: Accumulator, forward_backward: Callable[[Group, Record], None]
) -> list[tuple[Any, Any]]:
    """Runs `forward_backward(group, record)`, again with half the micro-batch until it fits into memory.

    Returns what the attempt that fitted recorded: the metrics must not count those that failed.
    """
    before = Snapshot(accumulator.model)
    while True:
        recorded: list[tuple[Any, Any]] = []
        failed = ""
        try:
            forward_backward(group, recorder(recorded))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            failed = str(error) or type(error).__name__
        if not any(accumulator.ranks.max(float(bool(failed)))):
            return recorded
        # outside of the except block: the traceback, and with it the failed forward's tensors, is gone
        size = accumulator.micro_batch or 1
        if size == 1:
            raise torch.OutOfMemoryError(f"a micro-batch of one sample does not fit: {failed or 'on another rank'}")
        group.restart(size // 2)
        before.restore()


def recorder(into: list[tuple[Any, Any]]) -> Record:
    return lambda outputs, targets: into.append((outputs, targets))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is a lack of memory: of the GPU, of the CPU's allocator, or of a library's workspace."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(sign in text for sign in _SIGNS)


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
