"""Rows of a store that are pinned where the page cache has them, so that a device copies them itself.

The threads that gather a batch read each row and write it to pinned memory, from where the device reads it again: three
times the batch's bytes go through the memory, and the device's copies are slower beside them. Here the device's copy
engine reads the rows from the page cache, in any order, by one call for a batch, and no thread has any work.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from largeds_native._internal.machine import memory_limit
from largeds_native._internal.units import size as size_text
from largeds_native.errors import ArgumentError, DeviceError
from largeds_native.loading.cut import Cut
from largeds_native.loading.pinned_memory import PINNED, Pin, copy_function, error_text
from largeds_native.store import Store
from largeds_native.store.base import check_local
from largeds_native.store.gather import torch_dtype
from largeds_native.transform import Augment

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from largeds_native import _C

MOST = 0.9  # of the memory that may be pinned


class PinnedRows:
    """The rows of a store, pinned until this object is gone. Its files are read into the page cache if they are not
    there, and stay there.

    Raises ArgumentError if they are larger than the memory that this process may use, and DeviceError if CUDA can't pin
    them.
    """

    def __init__(self, store: Store) -> None:
        rows: Any = store.rows
        self._rows, self._copy_all = rows, copy_function()
        mapped = [pin for pin in rows.mapped() if pin[1]]
        check_room(mapped, store.location)
        pinned: list[Pin] = []
        # with `rows`, which keep the files mapped until then; at the end of the process the driver unpins
        release = weakref.finalize(self, PINNED.release, os.getpid(), pinned, rows)
        release.atexit = False
        for address, size in mapped:
            if code := PINNED.pin(address, size):
                release()
                raise DeviceError(
                    f"pin_rows: {size_text(size)} of {store.location} could not be pinned: {error_text(code)}. Use "
                    "pin_rows=False, or make room in memory"
                )
            pinned.append((address, size))

    def copy(self, samples: NDArray[np.int64], out: Tensor, stream: Any) -> None:
        """Starts to copy the rows of these samples to `out`, device memory of as many rows, in the stream."""
        n, row_bytes = len(samples), self._rows.row_bytes
        targets = np.uintp(out.data_ptr()) + np.arange(n, dtype=np.uintp) * np.uintp(row_bytes)
        code = self._copy_all(targets, self._rows.addresses(samples), np.full(n, row_bytes, np.uintp), stream)
        if code:
            raise DeviceError(
                f"pin_rows: the device could not copy rows: {error_text(code)}. Use pin_rows=False if it works without"
            )


def check_room(pins: Sequence[Pin], location: str) -> None:
    """Raises ArgumentError if these and what is pinned already leave too little memory for anything else."""
    size, others, limit = sum(size for _, size in pins), PINNED.bytes_beside(pins), memory_limit()
    if size + others > MOST * limit:
        beside = f" beside {size_text(others)} that are pinned" if others else ""
        raise ArgumentError(
            f"pin_rows: the rows of {location} take {size_text(size)}{beside}, and this process may use "
            f"{size_text(limit)} of memory: use pin_rows=False"
        )


def without_images(store: Store) -> _C.Gather:
    """A Gather for batches whose images the threads don't fill: it checks the numbers of their samples."""
    from largeds_native import _C

    return _C.Gather([_C.Picture(store.rows, store.read_spec())], views=[])


class RowImages:
    """The images of batches on a device, from pinned rows: of each view cut out and flipped, as `Gather` would do it.

    views, shapes: what each view shows, and its (C, H, W). Nothing is resized: see `check_pin_rows`.
    """

    def __init__(
        self,
        store: Store,
        pinned: PinnedRows,
        views: Sequence[Augment],
        shapes: Sequence[tuple[int, int, int]],
        channels_last: bool,
        seed: int,
        cut: Cut,
    ) -> None:
        self._pinned, self._seed = pinned, seed
        self._shape, self._planar = (store.channels, *store.image_size), store.layout == "CHW"
        self._dtype = torch_dtype(store.dtype)
        self.row_bytes = store.row_bytes
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        whole = self._planar != channels_last  # the rows have the batches' layout
        self._cores = [None if whole and view == Augment() else view.core() for view in views]
        self._shapes, self._cut = shapes, cut

    @property
    def kernel(self) -> str | None:
        """What cuts out, "triton" or "torch"; None if nothing is cut."""
        return self._cut.kernel if any(self._cores) else None

    def sources(self, samples: NDArray[np.int64], keys: NDArray[np.int64], epoch: int) -> list[Tensor]:
        """Tensors like all those on the device that `fill` needs: the rows, and of each view that is cut out the boxes
        and the images. Those that have no values here are meta tensors."""
        from largeds_native import _C

        n, (channels, height, width) = len(samples), self._shape
        row = (channels, height, width) if self._planar else (height, width, channels)
        found = [torch.empty((n, *row), dtype=self._dtype, device="meta")]
        for view, core in enumerate(self._cores):
            if core is not None:
                found.append(torch.from_numpy(_C.boxes(core, height, width, self._seed, epoch, keys, view)))
                shape = (n, *self._shapes[view])
                found.append(torch.empty(shape, dtype=self._dtype, device="meta", memory_format=self._format))
        return found

    def fill(
        self, memory: Sequence[Tensor], sources: Sequence[Tensor], samples: NDArray[np.int64], stream: Any
    ) -> list[Tensor]:
        """The images of each view, (n, C, H, W), in this memory, once the stream is there: it must be current."""
        self._pinned.copy(samples, memory[0], stream)
        images = memory[0] if self._planar else memory[0].permute(0, 3, 1, 2)
        for boxes, drawn, out in zip(memory[1::2], sources[1::2], memory[2::2], strict=True):
            boxes.copy_(drawn, non_blocking=True)
            self._cut(images, boxes, out)
        cut_out = iter(memory[2::2])
        return [images if core is None else next(cut_out) for core in self._cores]


def check_pin_rows(store: Store, views: Sequence[Augment], pictures: Sequence[str], converted: bool) -> None:
    """Raises ArgumentError unless a device can make the batches from the rows, and torch's CUDA is 12.8 or newer.

    `pictures` are the fields that are pictures; `converted`: whether the CPU has to change the rows' values.
    """
    from largeds_native import _C

    check_local(store, "pin_rows")
    resized = any(view.resized_crop is not None or view.resize is not None for view in views)
    reasons = {
        f"are {store.metadata.codec} rows, or several stores": not isinstance(store.rows, _C.Rows),
        "have several variants": store.variants > 1,
        "come with masks or other pictures": bool(pictures),
        "are resized, which only threads do": resized,
        "are converted by the CPU: pass dtype= of the store, without mean and std": converted,
    }
    for reason, true in reasons.items():
        if true:
            raise ArgumentError(f"pin_rows: the images of {store.location} {reason}. Use pin_rows=False")
    copy_function()
