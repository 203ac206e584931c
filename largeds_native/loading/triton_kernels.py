"""Triton's kernels for batches of images. Imported only where Triton is there.

Triton's compiler reads the source of the kernels, and takes no annotations but its own. Of each kernel, a function
without that launches it.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor

NORMALISED, CUT = 4096, 1024  # values, and pixels, of a program


@triton.jit
def _of_channel(channel, of0, of1, of2, of3):
    return tl.where(channel == 0, of0, tl.where(channel == 1, of1, tl.where(channel == 2, of2, of3)))


@triton.jit
def normalise_planes(
    images,
    out,
    pixels,
    multiply0,
    multiply1,
    multiply2,
    multiply3,
    add0,
    add1,
    add2,
    add3,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
):
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


@triton.jit
def normalise_interleaved(
    images,
    out,
    size,
    multiply0,
    multiply1,
    multiply2,
    multiply3,
    add0,
    add1,
    add2,
    add3,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Part program_id(0) of a batch of `size` values, the channels of a pixel one after another."""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    at = tl.arange(0, BLOCK)
    channel = ((start % CHANNELS).to(tl.int32) + at) % CHANNELS
    multiply = _of_channel(channel, multiply0, multiply1, multiply2, multiply3)
    add = _of_channel(channel, add0, add1, add2, add3)
    inside = start + at < size
    values = tl.load(images + start + at, mask=inside, other=0).to(tl.float32) * multiply + add
    tl.store(out + start + at, values.to(out.dtype.element_ty), mask=inside)


def launch_normalise(images: Tensor, out: Tensor, multiply: Sequence[float], add: Sequence[float]) -> None:
    n, channels, height, width = images.shape
    if not images.numel():
        return
    scale = [*multiply, *[0.0] * (4 - channels), *add, *[0.0] * (4 - channels)]
    if images.is_contiguous():
        pixels = height * width
        normalise_planes[n * channels, triton.cdiv(pixels, NORMALISED)](
            images, out, pixels, *scale, channels, NORMALISED
        )
    else:
        size = images.numel()
        normalise_interleaved[(triton.cdiv(size, NORMALISED),)](images, out, size, *scale, channels, NORMALISED)


@triton.jit
def cut(
    images,
    boxes,
    out,
    height,
    width,
    out_height,
    out_width,
    blocks,
    FROM_PLANES: tl.constexpr,
    TO_PLANES: tl.constexpr,
    WIDE: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Part program_id(0) % blocks of what image program_id(0) // blocks shows: boxes has (x, y, flip, vertical flip)
    for each image. WIDE: an image has too many values for offsets of 32 bits."""
    image = tl.program_id(0) // blocks
    left, top = tl.load(boxes + 4 * image), tl.load(boxes + 4 * image + 1)
    flip, vertical_flip = tl.load(boxes + 4 * image + 2), tl.load(boxes + 4 * image + 3)
    one = tl.full((), 1, tl.int64 if WIDE else tl.int32)
    source_pixels, target_pixels = one * height * width, one * out_height * out_width
    pixel = one * (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    there = pixel < target_pixels
    x, y = pixel % out_width, pixel // out_width
    x = left + tl.where(flip != 0, out_width - 1 - x, x)
    y = top + tl.where(vertical_flip != 0, out_height - 1 - y, y)
    inside = there & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    read = images + image.to(tl.int64) * source_pixels * CHANNELS
    written = out + image.to(tl.int64) * target_pixels * CHANNELS
    for channel in tl.static_range(CHANNELS):
        source = channel * source_pixels + y * width + x if FROM_PLANES else (y * width + x) * CHANNELS + channel
        target = channel * target_pixels + pixel if TO_PLANES else pixel * CHANNELS + channel
        tl.store(written + target, tl.load(read + source, mask=inside, other=0), mask=there)


def launch_cut(images: Tensor, boxes: Tensor, out: Tensor, wide: bool = False) -> None:
    n, channels, height, width = images.shape
    blocks = triton.cdiv(out.shape[2] * out.shape[3], CUT)
    planes = [one.is_contiguous() for one in (images, out)]
    wide = wide or max(channels * height * width, out[0].numel()) >= 1 << 31
    cut[(n * blocks,)](images, boxes, out, height, width, *out.shape[2:], blocks, *planes, wide, channels, CUT)
