"""uint8 images on a device to normalised floats, in one pass over the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from largeds_native.loading.device_kernel import DeviceKernel


@dataclass(frozen=True)
class DeviceFormat:
    """How the device converts the images of the host: `images * multiply + add` in `dtype`, a number of each for each
    of at most 4 channels."""

    dtype: torch.dtype
    multiply: Sequence[float]
    add: Sequence[float]


class Normalise:
    """Converts batches (N, C, H, W) of uint8, contiguous or channels_last, to `format`, in the same memory format.

    On a CUDA device Triton's kernel does it. Where Triton is missing, or can't compile (it needs a C compiler), torch's
    addcmul does, in one pass too; `kernel` tells which. Their values differ by at most the last digit of float32.
    """

    def __init__(self, format: DeviceFormat, device: torch.device) -> None:
        self.format = format
        self._multiply, self._add = (
            torch.tensor(values, dtype=torch.float32, device=device).view(1, -1, 1, 1)
            for values in (format.multiply, format.add)
        )
        self._kernel = DeviceKernel("launch_normalise", device)

    @property
    def kernel(self) -> str:
        return self._kernel.name

    def __call__(self, images: Tensor) -> Tensor:
        out = torch.empty_like(images, dtype=self.format.dtype)
        if out.stride() == images.stride() and self._kernel(images, out, self.format.multiply, self.format.add):
            return out
        return torch.addcmul(self._add, images, self._multiply, out=out)
