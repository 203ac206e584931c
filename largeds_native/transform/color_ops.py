"""Colour operations in place on float images (n, C, H, W), each image with a number of its own.

Each has the arithmetic of the function with its name in torchvision.transforms.v2.functional, for a batch. `peak` is
the largest value: 255 for pixels that are whole numbers, and stay so after each operation, rounded as torchvision
rounds uint8; 1 for floats. The numbers of the images are (n, 1, 1, 1) float64. Nothing here waits for the device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

LUMA = (0.2989, 0.587, 0.114)  # the shares of red, green and blue in a grey value, as in torchvision and Pillow
WHOLE = 255.0  # the peak of whole numbers
CUT = 4.0  # a Gaussian is cut off at so many standard deviations: less than 1e-4 of it is beyond


def adjust_brightness(x: Tensor, factor: Tensor, peak: float) -> None:
    _limit(x.mul_(factor.to(x.dtype)), peak)


def adjust_contrast(x: Tensor, factor: Tensor, peak: float) -> None:
    grey = _luma(x, peak)
    # rows in float32, which is fast, and exact for whole numbers; their sums in float64, whose order does not matter
    total = grey.sum(3, keepdim=True).sum((1, 2), keepdim=True, dtype=torch.float64)
    mean = total.div_(grey[0].numel()).to(x.dtype)
    _blend(x, mean, factor, peak)


def adjust_saturation(x: Tensor, factor: Tensor, peak: float) -> None:
    if x.shape[1] == 3:
        _blend(x, _luma(x, peak), factor, peak)


def adjust_hue(x: Tensor, factor: Tensor, peak: float) -> None:
    """Rotates the hue by `factor` of a turn, from -0.5 to 0.5.

    Without a way through HSV. With the lowest and the highest value of a pixel, and its hue in sixths of a turn from
    red, |hue| = (high - 2 low + green + blue - red) / (high - low), and its sign is that of green - blue. After the
    rotation, a channel is low + (high - low) * (2 - d), where d is the distance of the hue from the channel's own, no
    less than 1 and no more than 2.
    """
    if x.shape[1] != 3:
        return
    red, green, blue = _channels(x)
    high, low = torch.maximum(red, green), torch.minimum(red, green)
    torch.maximum(high, blue, out=high)
    torch.minimum(low, blue, out=low)
    chroma = (high - low).clamp_(min=1e-6 * peak)  # no division by 0 where a pixel is grey
    hue = high.sub_(low, alpha=2).add_(green).add_(blue).sub_(red).div_(chroma)
    hue.copysign_(green - blue)  # from -3 to 3
    own = torch.arange(0, 6, 2, dtype=x.dtype, device=x.device).view(1, 3, 1, 1)
    # the distance from the channel's hue plus 3, from -6 to 6: the nearest whole turn of it is 3 from 0
    distance = torch.add(hue, (factor.to(x.dtype) * 6 - own).remainder_(6).sub_(3), out=x).abs_().sub_(3).abs_()
    base = low.add_(chroma, alpha=2)
    if peak == WHOLE:  # as torchvision goes back from [0, 1] to whole numbers: * 255.999, without the fraction
        base.mul_(255.999 / 255)
        chroma.mul_(255.999 / 255)
    distance.clamp_(1, 2).mul_(chroma.neg_()).add_(base)
    if peak == WHOLE:
        x.floor_()


def to_grayscale(x: Tensor, peak: float) -> None:
    if x.shape[1] == 3:
        x.copy_(_luma(x, peak))


def gaussian_blur(x: Tensor, sigma: Tensor, radius: int, peak: float) -> None:
    """With kernels of 2 * radius + 1 pixels, radius below the sides of the images."""
    kernels = gaussian_kernels(sigma, radius).to(x.dtype)
    _convolve(_convolve(x, kernels, 2, out=torch.empty_like(x)), kernels, 3, out=x)
    if peak == WHOLE:
        x.round_()


def gaussian_kernels(sigma: Tensor, radius: int) -> Tensor:
    """(n, 2 * radius + 1), each 0 from its own cut on, so that a wider one in the batch changes no image."""
    offsets = torch.arange(-radius, radius + 1, dtype=sigma.dtype, device=sigma.device)
    deviations = sigma.view(-1, 1)
    exponents = -0.5 * (offsets / deviations).square()
    return torch.softmax(exponents.masked_fill(offsets.abs() > (CUT * deviations).ceil(), -math.inf), 1)


def blur_radius(sigma: float, kernel: int) -> int:
    """How far the largest `sigma` of a batch reaches, within kernels of `kernel` pixels."""
    return min(math.ceil(CUT * sigma), kernel // 2)


def solarize(x: Tensor, threshold: float, peak: float) -> None:
    """Inverts the values of at least threshold * peak."""
    bright = torch.ge(x, round(threshold * peak, 4), out=torch.empty_like(x))
    x.add_((x * -2).add_(peak).mul_(bright))


def _blend(x: Tensor, other: Tensor, factor: Tensor, peak: float) -> None:
    # the second weight is subtracted in float64 and then rounded, as torchvision does
    _limit(x.mul_(factor.to(x.dtype)).addcmul_(other, (1 - factor).to(x.dtype)), peak)


def _limit(x: Tensor, peak: float) -> None:
    x.clamp_(0, peak)
    if peak == WHOLE:
        x.floor_()


def _channels(x: Tensor) -> list[Tensor]:
    """Three of (n, 1, H, W)."""
    return [x.narrow(1, channel, 1) for channel in range(3)]


def _luma(x: Tensor, peak: float) -> Tensor:
    """(n, 1, H, W)"""
    if x.shape[1] == 1:
        return x
    red, green, blue = _channels(x)
    grey = (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])
    return grey.floor_() if peak == WHOLE else grey


def _convolve(x: Tensor, kernels: Tensor, axis: int, out: Tensor) -> Tensor:
    """Each image with its kernel (n, k) along an axis, reflected at the edges."""
    radius, n = kernels.shape[1] // 2, x.shape[axis]
    padded = functional.pad(x, (0, 0, radius, radius) if axis == 2 else (radius, radius, 0, 0), mode="reflect")
    if x.device.type != "cpu":
        return _grouped_convolution(padded, kernels, axis, out)
    # in CPU memory, adding shifted images is twice to eight times as fast as a convolution of so few channels
    weights = kernels.view(len(x), 1, 1, 1, -1).unbind(-1)
    torch.mul(padded.narrow(axis, 0, n), weights[0], out=out)
    for shift, weight in enumerate(weights[1:], 1):
        out.addcmul_(padded.narrow(axis, shift, n), weight)
    return out


def _grouped_convolution(padded: Tensor, kernels: Tensor, axis: int, out: Tensor) -> Tensor:
    """The same, in one pass over memory."""
    n, channels, height, width = padded.shape
    shape = (n * channels, 1, -1, 1) if axis == 2 else (n * channels, 1, 1, -1)
    weights = kernels.repeat_interleave(channels, 0, output_size=n * channels).view(shape)
    with torch.autocast(padded.device.type, enabled=False):
        done = functional.conv2d(padded.view(1, n * channels, height, width), weights, groups=n * channels)
    return out.copy_(done.view(out.shape))
