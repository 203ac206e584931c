"""uint8 images on a device to normalised floats, in one pass over the batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


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
        self.triton = TritonKernel(triton_launcher() if device.type == "cuda" else None)

    @property
    def kernel(self) -> str:
        return "triton" if self.triton.used else "torch"

    def __call__(self, images: Tensor) -> Tensor:
        out = torch.empty_like(images, dtype=self.format.dtype)
        if out.stride() == images.stride() and self.triton(images, out, self.format):
            return out
        return torch.addcmul(self._add, images, self._multiply, out=out)


Launch = Callable[..., None]
BLOCK = 4096


class TritonKernel:
    """A kernel of Triton's, unless `launch` is None: if the first launch fails, it is not tried again."""

    def __init__(self, launch: Launch | None) -> None:
        self.launch, self.used = launch, False

    def __call__(self, *arguments: Any) -> bool:
        """Whether it was launched; otherwise somebody else has to do the work."""
        if self.launch is None:
            return False
        try:
            self.launch(*arguments)
            self.used = True
        except Exception:  # no C compiler, a home that can't be written to, another Triton
            if self.used:
                raise
            self.launch = None
        return self.used


@functools.cache
def triton_launcher() -> Launch | None:
    """Triton's kernel; None where Triton is missing. Compiled at the first launch, for some hundred milliseconds."""
    try:
        import triton

        from largeds_native.loading.triton_kernels import normalise_interleaved, normalise_planes
    except Exception:
        return None

    def launch(images: Tensor, out: Tensor, format: DeviceFormat) -> None:
        n, channels, height, width = images.shape
        if not images.numel():
            return
        scale = [*format.multiply, *[0.0] * (4 - channels), *format.add, *[0.0] * (4 - channels)]
        if images.is_contiguous():
            pixels = height * width
            grid: Any = (n * channels, triton.cdiv(pixels, BLOCK))
            normalise_planes[grid](images, out, pixels, *scale, channels, BLOCK)
        else:
            grid = (triton.cdiv(images.numel(), BLOCK),)
            normalise_interleaved[grid](images, out, images.numel(), *scale, channels, BLOCK)

    return launch
