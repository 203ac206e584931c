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
        self.format, self.kernel = format, "torch"
        self._multiply, self._add = (
            torch.tensor(values, dtype=torch.float32, device=device).view(1, -1, 1, 1)
            for values in (format.multiply, format.add)
        )
        self._launch = triton_launcher() if device.type == "cuda" else None

    def __call__(self, images: Tensor) -> Tensor:
        out = torch.empty_like(images, dtype=self.format.dtype)
        if self._launch is not None and out.stride() == images.stride():
            try:
                self._launch(images, out, self.format)
                self.kernel = "triton"
                return out
            except Exception:  # no C compiler, a home that can't be written to, another Triton
                if self.kernel == "triton":
                    raise
                self._launch = None
        return torch.addcmul(self._add, images, self._multiply, out=out)


Launch = Callable[[Tensor, Tensor, DeviceFormat], None]
BLOCK = 4096


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
