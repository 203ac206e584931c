"""Crops and flips of batches on a device, where nothing is resized."""

from __future__ import annotations

import torch
from torch import Tensor

from largeds_native.loading.device_kernel import DeviceKernel


class Cut:
    """Cuts a box out of each image of a batch, flips it, and lays it out.

    On a CUDA device Triton's kernel does it in one pass; where Triton is missing or can't compile, torch's indexing.
    """

    def __init__(self, device: torch.device) -> None:
        self._kernel = DeviceKernel("launch_cut", device)

    @property
    def kernel(self) -> str:
        return self._kernel.name

    def __call__(self, images: Tensor, boxes: Tensor, out: Tensor) -> None:
        """Writes to `out`, (n, C, h, w), the boxes of `images`, (n, C, H, W); both contiguous or channels_last.

        `boxes` has (x, y, flip, vertical flip) for each, int32: the place of its upper left pixel, and whether it is
        flipped then. What is outside of the image is 0.
        """
        if images.element_size() == 2:  # not all operators know uint16
            images, out = images.view(torch.int16), out.view(torch.int16)
        if out.numel() and not self._kernel(images, boxes, out):
            out.copy_(_indexed(images, boxes, *out.shape[2:]))


def _indexed(images: Tensor, boxes: Tensor, height: int, width: int) -> Tensor:
    """The same by torch's operators."""
    x, y, flip, vertical_flip = (column.unsqueeze(1) for column in boxes.long().unbind(1))
    columns, rows = (torch.arange(size, device=images.device) for size in (width, height))
    columns = x + torch.where(flip > 0, width - 1 - columns, columns)
    rows = y + torch.where(vertical_flip > 0, height - 1 - rows, rows)
    rows, columns = rows[:, None, :, None], columns[:, None, None, :]
    outside = (rows < 0) | (rows >= images.shape[2]) | (columns < 0) | (columns >= images.shape[3])
    rows, columns = rows.clamp(0, images.shape[2] - 1), columns.clamp(0, images.shape[3] - 1)
    number = torch.arange(len(images), device=images.device)[:, None, None, None]
    channel = torch.arange(images.shape[1], device=images.device)[:, None, None]
    return images[number, channel, rows, columns].masked_fill_(outside, 0)
