"""Batches that a DataLoader's worker sends in memory which it uses again.

torch makes new shared memory for every batch, and the kernel zeroes each of its pages. Here a worker keeps some slots.
The first byte of a slot counts its holders: the worker, as long as a tensor over the batch is alive there, and whoever
has been sent the batch, until the last tensor over it goes there. At zero the slot is used again. What is made of a
batch and sent (a view, a copy) is sent as torch sends any tensor. A batch that is sent and never received keeps its
slot.
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
MAX_SLOTS = 8  # slots a worker keeps; more live as long as whoever holds them

# A subclass of Tensor that nothing but its pickling tells from one. torch's notes on extending it name this function;
# without it batches are plain tensors, which torch copies into new shared memory.
NO_TORCH_FUNCTION: Any = getattr(torch._C, "_disabled_torch_function_impl", None)


class BatchMemory:
    """Where a dataset's batches lie: in slots of its own process, or in those that it shares. Neither is allocated anew
    for each batch: a page that is new costs more than all that is written to it."""

    def __init__(self) -> None:
        from largeds_native import _C

        self._ring, self._shared = _C.Ring(0, 2), SharedSlots()

    def tensor(self, shape: Sequence[int], dtype: torch.dtype, whole: bool) -> Tensor:
        """An uninitialised batch. `whole`: it goes to the process of the DataLoader, if there is one, as it is."""
        if whole and NO_TORCH_FUNCTION is not None and get_worker_info() is not None:
            return self._shared.tensor(shape, dtype)
        return self._ring.tensor(shape, dtype_name(dtype))


class SharedSlots:
    """A worker's own slots."""

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
    """A batch in a slot. In another process it is a plain tensor, and gives the slot back when it goes."""

    __torch_function__ = NO_TORCH_FUNCTION
    slot: Tensor

    def __reduce_ex__(self, protocol: Any) -> Any:
        from largeds_native import _C

        _C.hold_slot(self.slot)
        return (rebuild_batch, (self.slot, tuple(self.shape), self.dtype))


def rebuild_batch(slot: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    from largeds_native import _C

    return _C.slot_tensor(slot, HEADER, shape, dtype_name(dtype))
