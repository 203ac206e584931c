"""Shared memory that a DataLoader's worker reuses for the batches that it sends.

torch allocates new shared memory for every batch, and the kernel zeroes each of its pages. Here a worker keeps some
slots of shared memory. The first byte of a slot counts its holders: the worker, while a tensor over the batch is alive
there, and each process that was sent the batch, while a tensor over it is alive there. At zero, the slot is reused.
Views and copies of a batch are sent as torch sends any tensor. A batch that is sent but never received keeps its slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from largeds_native.store.gather import dtype_name

HEADER = 4096  # bytes before the batch
MAX_SLOTS = 8  # slots that a worker keeps; further ones live only while somebody holds their batch

# It makes a subclass of Tensor behave as a plain Tensor except for pickling. torch's notes on extending it name this
# function. If torch no longer has it, batches are plain tensors, which torch copies into new shared memory.
NO_TORCH_FUNCTION: Any = getattr(torch._C, "_disabled_torch_function_impl", None)


class BatchMemory:
    """Memory for the batches of a dataset: slots of its own process, or shared slots. Both kinds are reused, since
    the first access to a new page costs more than writing the values."""

    def __init__(self) -> None:
        from largeds_native import _C

        self._ring, self._shared = _C.Ring(0, 2), SharedSlots()

    def tensor(self, shape: Sequence[int], dtype: torch.dtype, whole: bool) -> Tensor:
        """An uninitialised batch. `whole`: a worker sends this very tensor to the DataLoader, so it may be shared."""
        if whole and NO_TORCH_FUNCTION is not None and get_worker_info() is not None:
            return self._shared.tensor(shape, dtype)
        return self._ring.tensor(shape, dtype_name(dtype))


class SharedSlots:
    """The slots of one worker."""

    def __init__(self) -> None:
        self._slots: list[Tensor] = []

    def tensor(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """An uninitialised batch in a slot that nobody holds."""
        from largeds_native import _C

        nbytes = HEADER + prod(shape) * dtype.itemsize
        free = (slot for slot in self._slots if _C.slot_is_free(slot) and len(slot) >= nbytes)
        slot = next(free, None)
        if slot is None:
            slot = torch.empty(nbytes, dtype=torch.uint8).share_memory_()  # type: ignore[no-untyped-call]
            slot[0] = 0
            self._slots = [*self._slots[-MAX_SLOTS + 1 :], slot]
        _C.hold_slot(slot)
        batch = _C.slot_tensor(slot, HEADER, shape, dtype_name(dtype)).as_subclass(SharedBatch)
        batch.slot = slot
        return batch


class SharedBatch(Tensor):
    """A batch in a slot. The receiving process gets a plain tensor, which releases the slot when it is freed."""

    __torch_function__ = NO_TORCH_FUNCTION
    slot: Tensor

    def __reduce_ex__(self, protocol: Any) -> Any:
        from largeds_native import _C

        _C.hold_slot(self.slot)
        return (rebuild_batch, (self.slot, tuple(self.shape), self.dtype))


def rebuild_batch(slot: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    from largeds_native import _C

    return _C.slot_tensor(slot, HEADER, shape, dtype_name(dtype))
