"""Batches that are coloured and normalised in CPU memory, when they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from largeds_native._internal.serial import run_in_threads
from largeds_native.loading.coloring import Coloring
from largeds_native.loading.cursor import Progress
from largeds_native.loading.iterator import HostIterator, PositionedParts
from largeds_native.loading.normalise import DeviceFormat
from largeds_native.store.gather import dtype_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from largeds_native import _C


class ColorIterator:
    """A BatchSource: the host's batches in colour, normalised by `format` unless it is None.

    Each view goes into a slot of the ring, so that a batch that the caller holds is never overwritten. The host's batch
    is not changed, so that a batch which an exception interrupts can be made again.
    """

    def __init__(
        self, host: HostIterator, epoch: int, coloring: Coloring, format: DeviceFormat | None, ring: _C.Ring
    ) -> None:
        self._host, self._epoch, self._coloring, self._format, self._ring = host, epoch, coloring, format, ring
        self.stats = host.stats
        self._colored: dict[int, Tensor] = {}  # of each view before it is normalised; reused

    def take(self, after: Progress) -> PositionedParts:
        parts, progress = self._host.take(after)
        keys, view_of = self._host.keys, self._host.structure.view_of
        return tuple(self._view(view_of(i), part, keys) for i, part in enumerate(parts)), progress

    def _view(self, view: int | None, images: Tensor, keys: NDArray[np.int64]) -> Tensor:
        if view is None:  # a field
            return images
        if self._format is None:
            changes = self._coloring.colors[view] is not None
            out = self._like(images, images.dtype) if changes else None
            return self._coloring.apply(images, view, self._epoch, keys, out)
        if view not in self._colored or self._colored[view].shape != images.shape:
            self._colored[view] = torch.empty_like(images)
        colored = self._coloring.apply(images, view, self._epoch, keys, self._colored[view])
        return _normalise(colored, self._format, self._like(images, self._format.dtype))

    def _like(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        """Memory of the ring for images of this shape and layout."""
        n, channels, height, width = images.shape
        if images.is_contiguous():
            return self._ring.tensor([n, channels, height, width], dtype_name(dtype))
        return self._ring.tensor([n, height, width, channels], dtype_name(dtype)).permute(0, 3, 1, 2)


def _normalise(images: Tensor, format: DeviceFormat, out: Tensor) -> Tensor:
    multiply, add = (torch.tensor(values).view(-1, 1, 1) for values in (format.multiply, format.add))
    waiting = list(zip(images, out, strict=True))

    def work() -> None:
        while waiting:
            try:
                image, result = waiting.pop()
            except IndexError:  # another thread took the last one
                return
            torch.addcmul(add, image, multiply, out=result)

    run_in_threads(work, min(torch.get_num_threads(), len(waiting)))
    return out
