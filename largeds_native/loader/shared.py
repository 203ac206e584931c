"""Batches that a DataLoader's worker sends in memory which it uses again.

torch makes new shared memory for every batch, and the kernel zeroes each of its pages. Here a worker keeps some slots.
The first byte of a slot says whether it is held: set by the worker that fills it, cleared by whoever received it when
the last tensor over it goes. A batch that leaves in any other way than whole and alone never gives its slot back.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import reduce_tensor
from torch.utils.data import get_worker_info

HEADER = 4096  # bytes before the batch
KEPT = 8  # slots a worker keeps; more live as long as whoever holds them


class BatchMemory:
    """Where a dataset's batches lie: in slots of its own process, or in those that it shares. Neither is allocated anew
    for each batch: a page that is new costs more than all that is written to it."""

    def __init__(self) -> None:
        from largeds_native import _C

        self._ring, self._shared = _C.Ring(0, 2), SharedSlots()

    def tensor(self, shape: Sequence[int], dtype: torch.dtype, whole: bool) -> Tensor:
        """An uninitialised batch. `whole`: it goes to the process of the DataLoader, if there is one, as it is."""
        slots = self._shared if whole and get_worker_info() is not None else self._ring
        return slots.tensor(shape, dtype)


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
            storage: Any = torch.UntypedStorage._new_shared(nbytes)  # type: ignore[no-untyped-call]
            slot = torch.empty(0, dtype=torch.uint8).set_(storage)
            self._slots = [*self._slots[-KEPT + 1 :], slot]
        _C.hold_slot(slot)
        return SharedBatch.over(slot, shape, dtype)


class SharedBatch(Tensor):
    """A batch in a slot. In another process it is a plain tensor, and gives the slot back when it goes."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]
    slot: Tensor
    uses: int

    @classmethod
    def over(cls, slot: Tensor, shape: Sequence[int], dtype: torch.dtype) -> SharedBatch:
        from largeds_native import _C

        data = slot[HEADER : HEADER + prod(shape) * dtype.itemsize]
        batch = data.view(dtype).view(tuple(shape)).as_subclass(cls)
        del data
        batch.slot = slot
        batch.uses = _C.storage_uses(slot)
        return batch

    def __reduce_ex__(self, protocol: Any) -> Any:
        from largeds_native import _C

        if _C.storage_uses(self.slot) > self.uses:  # a view of it may go on living, here or there
            return reduce_tensor(self.as_subclass(Tensor))  # type: ignore[no-untyped-call]
        return (received, (self.slot, tuple(self.shape), self.dtype))


def received(slot: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    from largeds_native import _C

    return _C.lend_slot(slot, HEADER, shape, dtype)
