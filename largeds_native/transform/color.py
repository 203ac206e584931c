"""Random changes of colour, blur and erasing, for batches on any device, drawn by (seed, epoch, sample, view)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from largeds_native._internal.serial import run_in_threads
from largeds_native.errors import ArgumentError
from largeds_native.transform import color_ops
from largeds_native.transform.color_draws import ALL, JITTER, WITHOUT_ERASING, ColorDraws, Range, Step, color_draws
from largeds_native.transform.color_options import erased_values, factors, range_of, share
from largeds_native.transform.image_transform import MAX_SIDE, integer

DTYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64)
# Bytes of float pixels that are worked on at a time: on the CPU, one image of 224x224, so that they stay in the cache.
BLOCK_BYTES = 3 * 224 * 224 * 4
DEVICE_BLOCK_BYTES = 1 << 28
Applied = tuple[Step, Tensor, Tensor]  # a step, its rows, and its values (m, 1, 1, 1)
TOLERANCE = 1e-3  # by which floats may leave [0, 1], as after a resize
CENTERS = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0}


@dataclass(frozen=True)
class ColorAugment:
    """Colour jitter, grayscale, blur, solarize and erasing, in this order, drawn for each sample of a batch.

    >>> color = ColorAugment(0.4, 0.4, 0.4, 0.1, p=0.8, grayscale=0.2, blur=0.5)
    >>> images = color(images, seed=0, epoch=3, keys=samples)
    >>> loader = Loader(store, 64, color=color)  # the same, before normalising

    brightness, contrast, saturation: a number b draws the factor from [max(0, 1 - b), 1 + b]; or (low, high),
        up to a million.
    hue: a number h of at most 0.5 draws the shift from [-h, h], in turns of the circle; or (low, high). The four are
        those of torchvision's ColorJitter, and come in an order that is drawn for each sample.
    p: probability of the jitter.
    grayscale, blur, solarize, erasing: their probabilities.
    blur_kernel: side of the Gaussian kernel in pixels, odd, with half of it below the sides of the images.
    blur_sigma: range of its standard deviation, in pixels (torchvision's GaussianBlur).
    solarize_threshold: values of at least this are inverted, as a share of the largest value (255, or 1 of floats).
    erasing_scale, erasing_ratio: ranges of the erased rectangle's area, relative to the image's, and of its aspect
        ratio (torchvision's RandomErasing, its `scale` and `ratio`).
    erasing_value: what is written there, in [0, 1] units, one number or one for each channel: black by default. To get
        what RandomErasing does after Normalize, whose 0 is the mean, pass the mean.

    Draws are a function of (seed, epoch, key, view) alone (Philox 4x32-10), the same on every device, in any batch and
    with any number of threads; so are the pixels on the CPU. Images of one channel keep saturation, hue and grey.

    The pixels are those of torchvision.transforms.v2.functional, applied to one image after another with the same
    numbers: of uint8, 99.9% of the values are equal and 99.99% differ by at most 1; floats differ by less than 1e-4. A
    Gaussian is cut off at four standard deviations. On the CPU, as many threads as torch uses take an image each.

    Raises ArgumentError for probabilities outside [0, 1], invalid ranges, and an even kernel.
    """

    brightness: float | Range = 0.0
    contrast: float | Range = 0.0
    saturation: float | Range = 0.0
    hue: float | Range = 0.0
    p: float = 1.0
    grayscale: float = 0.0
    blur: float = 0.0
    blur_kernel: int = 23
    blur_sigma: Range = (0.1, 2.0)
    solarize: float = 0.0
    solarize_threshold: float = 0.5
    erasing: float = 0.0
    erasing_scale: Range = (0.02, 0.33)
    erasing_ratio: Range = (0.3, 3.3)
    erasing_value: float | Sequence[float] = 0.0

    def __post_init__(self) -> None:
        for name, center in CENTERS.items():
            object.__setattr__(self, name, factors(name, getattr(self, name), center))
        for name in ("p", "grayscale", "blur", "solarize", "erasing"):
            object.__setattr__(self, name, share(name, getattr(self, name), "a probability"))
        object.__setattr__(self, "blur_kernel", integer("blur_kernel", self.blur_kernel, 1, MAX_SIDE))
        if self.blur_kernel % 2 == 0:
            raise ArgumentError(f"blur_kernel: expected an odd number of pixels, found {self.blur_kernel}")
        positive = math.ulp(0.0)
        for name, low, high in (
            ("blur_sigma", positive, math.inf),
            ("erasing_scale", 0.0, 1.0),
            ("erasing_ratio", positive, math.inf),
        ):
            object.__setattr__(self, name, range_of(name, getattr(self, name), low, high))
        threshold = share("solarize_threshold", self.solarize_threshold, "a share of the largest value")
        object.__setattr__(self, "solarize_threshold", threshold)
        object.__setattr__(self, "erasing_value", erased_values(self.erasing_value))

    def check(self, channels: int, height: int, width: int) -> None:
        """Raises ArgumentError unless images of this shape can be augmented."""
        if channels not in (1, 3):
            raise ArgumentError(f"images: expected 1 or 3 channels, found {channels}")
        if self.blur > 0 and self.blur_kernel // 2 >= min(height, width):
            raise ArgumentError(
                f"blur_kernel: half of {self.blur_kernel} pixels must be less than the sides of the images, "
                f"{height}x{width}: pass blur_kernel={max(2 * (min(height, width) // 10) + 1, 1)} or so"
            )
        if isinstance(self.erasing_value, tuple) and len(self.erasing_value) != channels:
            raise ArgumentError(
                f"erasing_value: expected one number, or one for each of {channels} channels, found "
                f"{len(self.erasing_value)}"
            )

    def draw(
        self, keys: NDArray[np.int64], size: tuple[int, int], *, seed: int = 0, epoch: int = 0, view: int = 0
    ) -> ColorDraws:
        """The draws of samples with these keys, for images of (height, width): what `color(images)` applies."""
        from largeds_native import _C

        count = ALL if self.erasing > 0 else WITHOUT_ERASING
        return color_draws(_C.color_uniforms(seed, epoch, view, keys, count), self, size)

    @torch.no_grad()
    def __call__(
        self,
        images: Tensor,
        *,
        seed: int = 0,
        epoch: int = 0,
        keys: ArrayLike | Tensor | None = None,
        view: int = 0,
        out: Tensor | None = None,
    ) -> Tensor:
        """The augmented images, of the same shape, dtype, device and memory format.

        images: (n, C, H, W), C of 1 or 3; uint8, or floats in [0, 1], on any device.
        seed, epoch, view: integers, 0 or more. keys: one integer for each image, such as its row in a data set; by
        default 0 to n - 1.
        out: where the result goes, of the images' shape, dtype and device; it may be `images` itself.

        There is no gradient. Raises ArgumentError, also for floats outside of [0, 1] in CPU memory; on a CUDA device,
        nothing waits for the device, so that values are not looked at.
        """
        n, _, height, width = self._check_images(images, out)
        draws = self.draw(
            _keys(keys, n),
            (height, width),
            seed=integer("seed", seed, 0, 2**64 - 1),
            epoch=integer("epoch", epoch, 0, 2**63 - 1),
            view=integer("view", view, 0, 2**31 - 1),
        )
        result = torch.empty_like(images) if out is None else out
        if n:
            self._apply(images, draws, result)
        return result

    def _check_images(self, images: Any, out: Any) -> torch.Size:
        if not isinstance(images, Tensor) or images.ndim != 4 or images.dtype not in DTYPES:
            found = f"{images.dtype} of shape {tuple(images.shape)}" if isinstance(images, Tensor) else type(images)
            raise ArgumentError(
                f"images: expected a tensor (n, C, H, W) of uint8, or of floats in [0, 1], found {found}"
            )
        if 0 in images.shape[1:]:
            raise ArgumentError(f"images: expected at least one pixel each, found shape {tuple(images.shape)}")
        self.check(*images.shape[1:])
        _check_values(images)
        if out is not None:
            like = (images.shape, images.dtype, images.device)
            if not isinstance(out, Tensor) or (out.shape, out.dtype, out.device) != like:
                found = f"{tuple(out.shape)}, {out.dtype}, {str(out.device)!r}" if isinstance(out, Tensor) else out
                raise ArgumentError(
                    f"out: expected shape, dtype and device of the images, {tuple(images.shape)}, {images.dtype}, "
                    f"{str(images.device)!r}, found {found}"
                )
        return images.shape

    def _apply(self, images: Tensor, draws: ColorDraws, out: Tensor) -> None:
        n, *shape = images.shape
        dtype = torch.float64 if images.dtype == torch.float64 else torch.float32
        on_cpu = images.device.type == "cpu"
        size = min(max((BLOCK_BYTES if on_cpu else DEVICE_BLOCK_BYTES) // (math.prod(shape) * dtype.itemsize), 1), n)
        used = [getattr(self, name) != (CENTERS[name],) * 2 for name in JITTER]
        applied = _applied(draws.steps(size, used), images.device)
        blocks = zip(torch.split(images, size), torch.split(out, size), applied, strict=True)
        waiting = list(blocks)

        @torch.no_grad()
        def work() -> None:
            memory = torch.empty((size, *shape), dtype=dtype, device=images.device)
            with suppress(IndexError):
                while True:
                    self._augment(*waiting.pop(), memory)

        if on_cpu:
            run_in_threads(work, min(torch.get_num_threads(), len(waiting)))
        else:
            work()
        self._erase(out, draws)

    def _augment(self, images: Tensor, out: Tensor, applied: list[Applied], memory: Tensor) -> None:
        """One block of images, in the memory for its float pixels."""
        if not applied:
            out.copy_(images)
            return
        peak = color_ops.WHOLE if images.dtype == torch.uint8 else 1.0
        pixels = memory[: len(images)].copy_(images)
        for step, rows, values in applied:
            if len(step.rows) == len(pixels):
                self._operate(step, pixels, values, peak)
            elif len(step.rows) == 1:
                self._operate(step, pixels.narrow(0, step.rows[0], 1), values, peak)
            else:
                part = pixels.index_select(0, rows)
                self._operate(step, part, values, peak)
                pixels.index_copy_(0, rows, part)
        # torch converts floats to uint8 one at a time, but by way of int16 by SIMD
        out.copy_(pixels.to(torch.int16) if images.dtype == torch.uint8 else pixels)

    def _operate(self, step: Step, x: Tensor, values: Tensor, peak: float) -> None:
        if step.operation in JITTER:
            getattr(color_ops, f"adjust_{step.operation}")(x, values, peak)
        elif step.operation == "grayscale":
            color_ops.to_grayscale(x, peak)
        elif step.operation == "blur":
            radius = color_ops.blur_radius(max(step.values), self.blur_kernel)
            color_ops.gaussian_blur(x, values, radius, peak)
        else:
            color_ops.solarize(x, self.solarize_threshold, peak)

    def _erase(self, out: Tensor, draws: ColorDraws) -> None:
        erased = np.flatnonzero(draws.boxes[:, 2])
        if not len(erased):
            return
        channels = out.shape[1]
        values = self.erasing_value if isinstance(self.erasing_value, tuple) else (self.erasing_value,) * channels
        whole = out.dtype == torch.uint8
        for row, (top, left, height, width) in zip(erased.tolist(), draws.boxes[erased].tolist(), strict=True):
            box = out[row, :, top : top + height, left : left + width]
            for channel, value in zip(box, values, strict=True):
                channel.fill_(round(value * 255) if whole else value)


def _check_values(images: Tensor) -> None:
    if images.dtype == torch.uint8 or images.device.type != "cpu" or not len(images):
        return
    low, high = (float(end) for end in torch.aminmax(images))
    if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):  # NaN too
        raise ArgumentError(
            f"images: expected floats in [0, 1], found {low:.4g} to {high:.4g}: change colours before normalising, and "
            "pass pixels from 0 to 255 as uint8"
        )


def _applied(blocks: list[list[Step]], device: torch.device) -> list[list[Applied]]:
    """The steps of each block with their rows and values on the device, which gets all of them in two copies."""
    steps = [step for block in blocks for step in block]
    lengths = [len(step.rows) for step in steps]
    rows = torch.tensor([row for step in steps for row in step.rows], dtype=torch.int64)
    values = torch.tensor([value for step in steps for value in step.values], dtype=torch.float64).view(-1, 1, 1, 1)
    parts = zip(steps, torch.split(_on(device, rows), lengths), torch.split(_on(device, values), lengths), strict=True)
    return [list(islice(parts, len(block))) for block in blocks]


def _on(device: torch.device, tensor: Tensor) -> Tensor:
    """From pinned memory, so that the copy does not wait for the device."""
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def _keys(keys: Any, n: int) -> NDArray[np.int64]:
    if keys is None:
        return np.arange(n)
    try:
        found = np.asarray(keys.cpu() if isinstance(keys, Tensor) else keys)
    except (TypeError, ValueError):
        found = np.empty(0, object)
    if found.shape == (0,) == (n,):
        return np.empty(0, np.int64)
    if found.ndim != 1 or len(found) != n or found.dtype.kind not in "iu":
        raise ArgumentError(f"keys: expected {n} integers, one for each image, found {keys!r:.100}")
    return found.astype(np.int64)
