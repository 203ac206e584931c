"""Repeats a group that ran out of memory with smaller micro-batches, from the state before the first attempt.

Note [Trials]
With FSDP2 a rank that runs out of memory in the middle of a forward leaves the others in a collective call, which can't
be taken back. So a size is tried before it is used: each rank runs its largest micro-batch twice (the second one has
gradients) with the collective calls replaced by copies on the rank itself, which need the same memory; then the ranks
tell each other whether it fit. Nothing of a trial stays. The first two groups have one, as the optimizer's state comes
with the first step, and each group with a larger micro-batch than those tried.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from largeds_native.trainer import batches
from largeds_native.trainer.accumulation import Accumulator
from largeds_native.trainer.buffers import Snapshot
from largeds_native.trainer.group import Group
from largeds_native.trainer.lockstep import Pair
from largeds_native.trainer.sharding import ShardedSync

_SIGNS = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUDA error: out of memory",
    "CUDA driver error: out of memory",
    "Triton Error [CUDA]: out of memory",
    "CUBLAS_STATUS_NOT_INITIALIZED",  # when cuBLAS finds no room for itself
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
    if isinstance(accumulator.sync, ShardedSync):
        return _after_trials(group, accumulator, accumulator.sync, forward_backward)
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
        group.restart(_half(accumulator, failed))
        before.restore()
        release_memory()


def _half(accumulator: Accumulator, failed: str) -> int:
    size = accumulator.micro_batch or 1
    if size == 1:
        raise torch.OutOfMemoryError(f"a micro-batch of one sample does not fit: {failed or 'on another rank'}")
    return size // 2


def _after_trials(
    group: Group, accumulator: Accumulator, sync: ShardedSync, forward_backward: Callable[[Any, Record], None]
) -> list[tuple[Any, Any]]:
    """Runs the group with a size that fits on all ranks. See Note [Trials]."""
    while any(accumulator.ranks.max(float(_needs_trial(group, accumulator, sync)))):
        trial = Trial(accumulator, group.largest())
        before, failed = Snapshot(accumulator.model), ""
        with sync.without_communication():
            try:
                forward_backward(trial, recorder([]))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                failed = str(error) or type(error).__name__
        accumulator.optimizer.zero_grad(set_to_none=True)
        sync.forget()
        before.restore()
        if not any(accumulator.ranks.max(float(bool(failed)))):
            sync.tried = max(sync.tried, trial.elements)
            sync.groups_tried += 1
            break
        accumulator.micro_batch = _half(accumulator, failed)
        release_memory()
    recorded: list[tuple[Any, Any]] = []
    forward_backward(group, recorder(recorded))
    return recorded


def _needs_trial(group: Group, accumulator: Accumulator, sync: ShardedSync) -> bool:
    return sync.groups_tried < 2 or Trial(accumulator, group.largest()).elements > sync.tried


class Trial:
    """Stands for a group, and has one micro-batch twice; nothing, if it is None."""

    stand_in = False

    def __init__(self, accumulator: Accumulator, part: Pair | None) -> None:
        self._accumulator, self._part = accumulator, part
        self.elements = 0 if part is None else batches.elements(part)

    def __iter__(self) -> Iterator[Pair]:
        for _ in range(0 if self._part is None else 2):
            yield batches.to_device(self._part, self._accumulator.device)

    def backward(self, loss: Tensor) -> None:
        """As `Group.backward`."""
        loss.backward(self._accumulator.weighting.gradient_of(loss, 1.0))  # type: ignore[no-untyped-call]
        self._accumulator.sync.after_backward()


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
