"""Triton's kernels for batches of uint8. Imported only where Triton is there."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl


@triton.jit  # type: ignore[untyped-decorator]
def _of_channel(channel: Any, of0: Any, of1: Any, of2: Any, of3: Any) -> Any:
    return tl.where(channel == 0, of0, tl.where(channel == 1, of1, tl.where(channel == 2, of2, of3)))


@triton.jit  # type: ignore[untyped-decorator]
def normalise_planes(
    images: Any,
    out: Any,
    pixels: Any,
    multiply0: Any,
    multiply1: Any,
    multiply2: Any,
    multiply3: Any,
    add0: Any,
    add1: Any,
    add2: Any,
    add3: Any,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Part program_id(1) of plane program_id(0): one channel of one image, of `pixels` values."""
    plane = tl.program_id(0)
    channel = plane % CHANNELS
    multiply = _of_channel(channel, multiply0, multiply1, multiply2, multiply3)
    add = _of_channel(channel, add0, add1, add2, add3)
    pixel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < pixels
    start = plane.to(tl.int64) * pixels
    values = tl.load(images + start + pixel, mask=inside, other=0).to(tl.float32) * multiply + add
    tl.store(out + start + pixel, values.to(out.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def normalise_interleaved(
    images: Any,
    out: Any,
    size: Any,
    multiply0: Any,
    multiply1: Any,
    multiply2: Any,
    multiply3: Any,
    add0: Any,
    add1: Any,
    add2: Any,
    add3: Any,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Part program_id(0) of a batch of `size` values, the channels of a pixel one after another."""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    at = tl.arange(0, BLOCK)
    channel = ((start % CHANNELS).to(tl.int32) + at) % CHANNELS
    multiply = _of_channel(channel, multiply0, multiply1, multiply2, multiply3)
    add = _of_channel(channel, add0, add1, add2, add3)
    inside = start + at < size
    values = tl.load(images + start + at, mask=inside, other=0).to(tl.float32) * multiply + add
    tl.store(out + start + at, values.to(out.dtype.element_ty), mask=inside)
