"""Repeats a group that ran out of memory with smaller micro-batches, from the state before the first attempt."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch

from largeds_native.trainer.accumulation import Accumulator, Group
from largeds_native.trainer.buffers import Snapshot

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
    """Runs `forward_backward(group, record)`, and repeats it with half the micro-batch until it fits into memory.

    Returns what the successful attempt recorded: the metrics must not count failed attempts.
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
        # outside of the except block, where the traceback no longer keeps the tensors of the failed forward alive
        size = accumulator.micro_batch or 1
        if size == 1:
            raise torch.OutOfMemoryError(f"a micro-batch of one sample does not fit: {failed or 'on another rank'}")
        group.restart(size // 2)
        before.restore()
        release_memory()


def recorder(into: list[tuple[Any, Any]]) -> Record:
    return lambda outputs, targets: into.append((outputs, targets))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: on the GPU, in the CPU's allocator, or for a workspace of cuBLAS or cuDNN."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(sign in text for sign in _SIGNS)


def release_memory() -> None:
    """Give cached memory back to the device."""
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
