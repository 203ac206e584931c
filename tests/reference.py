"""Slow, obvious implementations, whose results the fast ones must equal."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import PIL
import pytest
from PIL import Image

# ---- random numbers: Philox4x32-10 and the keyed permutation, in plain integers --------------------------------

MASK32, MASK64 = 2**32 - 1, 2**64 - 1


def philox4x32(counter: list[int], key: list[int]) -> list[int]:
    c, (k0, k1) = list(counter), key
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k0, b & MASK32, (a >> 32) ^ c[3] ^ k1, a & MASK32]
        k0, k1 = (k0 + 0x9E3779B9) & MASK32, (k1 + 0xBB67AE85) & MASK32
    return c


def mix(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & MASK64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK64
    return x ^ (x >> 31)


class SampleDraws:
    """The draws of one view of a sample, as a function of (seed, epoch, sample, view)."""

    def __init__(self, seed: int, epoch: int, sample: int, view: int = 0) -> None:
        key = mix(seed ^ mix(epoch))
        self._key = [key & MASK32, key >> 32]
        self._counter = [sample & MASK32, sample >> 32, 0, view]
        self._numbers: list[int] = []

    def next_uint32(self) -> int:
        if not self._numbers:
            self._numbers = philox4x32(self._counter, self._key)
            self._counter[2] += 1
        return self._numbers.pop(0)

    def uniform(self) -> float:
        return self.next_uint32() / 2**32

    def below(self, n: int) -> int:
        while True:
            product = self.next_uint32() * n
            if product & MASK32 >= (2**32 - n) % n:
                return product >> 32


def color_uniforms(seed: int, epoch: int, view: int, sample: int, count: int) -> list[float]:
    """The numbers of one sample for colours."""
    key = mix(seed ^ mix(epoch))
    numbers: list[int] = []
    for block in range(-(-count // 4)):
        counter = [sample & MASK32, sample >> 32 & MASK32, block, 2**31 | view]
        numbers += philox4x32(counter, [key & MASK32, key >> 32])
    return [number / 2**32 for number in numbers[:count]]


def color_draw(u: list[float], options: Any, height: int, width: int) -> dict[str, Any]:
    """What ColorAugment does with one sample, from its numbers: torchvision's make_params, with our random numbers."""

    def within(number: float, bounds: tuple[float, float]) -> float:
        return bounds[0] + (bounds[1] - bounds[0]) * number

    draw: dict[str, Any] = {"order": [], "blur": None, "box": None}
    if u[0] < options.p:
        draw["order"] = list(list(itertools.permutations(range(4)))[int(u[1] * 24)])
    ranges = (options.brightness, options.contrast, options.saturation, options.hue)
    draw["factors"] = [within(number, bounds) for number, bounds in zip(u[2:6], ranges, strict=True)]
    draw["grayscale"], draw["solarize"] = u[6] < options.grayscale, u[9] < options.solarize
    if u[7] < options.blur:
        draw["blur"] = within(u[8], options.blur_sigma)
    if u[10] < options.erasing:
        for attempt in range(10):
            area = height * width * within(u[13 + 2 * attempt], options.erasing_scale)
            low, high = (math.log(bound) for bound in options.erasing_ratio)
            ratio = math.exp(within(u[14 + 2 * attempt], (low, high)))
            h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if h < height and w < width:
                draw["box"] = (int(u[11] * (height - h + 1)), int(u[12] * (width - w + 1)), h, w)
                break
    return draw


def permutation(n: int, seed: int, epoch: int) -> list[int]:
    """The keyed permutation, all of it."""
    epoch ^= 0x6F72646572
    if n <= 1024:  # Fisher and Yates
        draws, order = SampleDraws(seed, epoch, n), list(range(n))
        for i in range(n - 1, 0, -1):
            j = draws.below(i + 1)
            order[i], order[j] = order[j], order[i]
        return order
    return [_permuted(n, seed, epoch, position) for position in range(n)]


def _permuted(n: int, seed: int, epoch: int, position: int) -> int:
    """A Feistel network, walked along its cycle."""
    half = ((n - 1).bit_length() + 1) // 2
    state, keys = mix(seed ^ mix(epoch)), []
    for _ in range(6):
        state = mix(state)
        keys.append(state)
    value = position
    while True:
        left, right = value >> half, value & (2**half - 1)
        for key in keys:
            left, right = right, left ^ (mix(right ^ key) & (2**half - 1))
        value = left << half | right
        if value < n:
            return value ^ (mix(state) & 1) if value < 2 else value


# ---- a mix of stores, one draw after another -------------------------------------------------------------------


def mixed_stores(weights: list[float], draws: int) -> list[int]:
    """The store of each draw: at each split of the stores in halves, a draw goes to the first half when what that
    half is due, rounded down, grows."""
    counts: dict[tuple[int, int], int] = {}

    def draw(low: int, high: int) -> int:
        if high - low == 1:
            return low
        middle = (low + high) // 2
        share = (sum(exact[low:middle], Fraction(0)) / sum(exact[low:high], Fraction(0))).limit_denominator(1 << 30)
        had = counts.get((low, high), 0)
        counts[low, high] = had + 1
        due = math.floor((had + 1) * share) > math.floor(had * share)
        return draw(low, middle) if due else draw(middle, high)

    exact = [(Fraction(weight) / Fraction(max(weights))).limit_denominator(1 << 30) for weight in weights]
    return [draw(0, len(weights)) for _ in range(draws)]


# ---- gather: one image at a time -------------------------------------------------------------------------------


def chosen_crop(draws: SampleDraws, height: int, width: int, options: dict[str, Any]) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the crop, as in torchvision, with our random numbers."""
    out_h, out_w = options.get("out_height", height), options.get("out_width", width)
    crop, padding = options.get("crop", "none"), options.get("padding", 0)
    if crop == "center":
        return round((height - out_h) / 2), round((width - out_w) / 2), out_h, out_w
    if crop == "random":
        top = draws.below(height + 2 * padding - out_h + 1) - padding
        return top, draws.below(width + 2 * padding - out_w + 1) - padding, out_h, out_w
    if crop == "random_resized":
        scale, ratio = options.get("scale", (0.08, 1.0)), options.get("ratio", (3 / 4, 4 / 3))
        for _ in range(10):
            area = height * width * (scale[0] + (scale[1] - scale[0]) * draws.uniform())
            low, high = math.log(ratio[0]), math.log(ratio[1])
            aspect = math.exp(low + (high - low) * draws.uniform())
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                top = draws.below(height - h + 1)
                return top, draws.below(width - w + 1), h, w
        w, h = width, height
        if width / height < ratio[0]:
            h = min(max(round(width / ratio[0]), 1), height)
        elif width / height > ratio[1]:
            w = min(max(round(height * ratio[1]), 1), width)
        return (height - h) // 2, (width - w) // 2, h, w
    return 0, 0, height, width


def needs_pillow(version: tuple[int, int], reason: str) -> None:
    """Skips a test that compares with a newer Pillow: tools/test-torch installs the oldest supported one."""
    if tuple(map(int, PIL.__version__.split(".")[:2])) < version:
        pytest.skip(f"Pillow {PIL.__version__} {reason}")


def needs_pillow_of_rows_first() -> None:
    """Skips a test that compares with Pillow's `resize`: the order of its passes changed in Pillow 13."""
    needs_pillow((13, 0), "resizes by columns first")


def resized(image: np.ndarray, size: tuple[int, int], options: dict[str, Any]) -> np.ndarray:
    """(H, W, C) by Pillow to (height, width)."""
    needs_pillow_of_rows_first()
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    chosen = filters[options.get("filter", "bilinear")]
    planes = [Image.fromarray(np.ascontiguousarray(image[..., c])) for c in range(image.shape[2])]
    return np.stack([np.asarray(p.resize((size[1], size[0]), chosen)) for p in planes], axis=-1)


def torchvision_size(resize: int | tuple[int, int], height: int, width: int) -> tuple[int, int]:
    """(height, width) after torchvision's Resize."""
    if not isinstance(resize, int):
        return resize
    if height < width:
        return resize, int(resize * width / height)
    return int(resize * height / width), resize


def gathered_sample(
    image: np.ndarray, index: int, seed: int, epoch: int, options: dict[str, Any], view: int = 0
) -> np.ndarray:
    """image (H, W, C) uint8 -> the sample (C, h, w) uint8 before normalisation."""
    if options.get("resize"):
        image = resized(image, torchvision_size(options["resize"], *image.shape[:2]), options)
    height, width, _ = image.shape
    draws = SampleDraws(seed, epoch, index, view)
    top, left, h, w = chosen_crop(draws, height, width, options)
    pad = max(options.get("padding", 0), 0)
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    part = padded[top + pad : top + pad + h, left + pad : left + pad + w]
    if options.get("crop") == "random_resized":
        part = resized(part, (options.get("out_height", height), options.get("out_width", width)), options)
    if options.get("flip", 0.0) > 0 and draws.uniform() < options["flip"]:
        part = part[:, ::-1]
    if options.get("vertical_flip", 0.0) > 0 and draws.uniform() < options["vertical_flip"]:
        part = part[::-1]
    return np.ascontiguousarray(part.transpose(2, 0, 1))


def random_images(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    """Values over the whole range of the dtype; floats around 0."""
    rng = np.random.default_rng(seed)
    if dtype.startswith("float"):
        return rng.normal(size=shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def interpolated(part: np.ndarray, size: tuple[int, int], mode: str) -> np.ndarray:
    """(H, W, C) of any dtype -> (h, w, C), by torch's algorithm in float64: its float32 rounds the weights' positions,
    and the interpolate of torch repeats the first row of some images of several channels and width 1."""
    resized = part.astype(np.float64)
    for axis in (0, 1):
        matrix = axis_weights(part.shape[axis], size[axis], mode)
        resized = np.moveaxis(np.tensordot(matrix, resized, (1, axis)), 0, axis)
    return resized


def axis_weights(n: int, out: int, mode: str) -> np.ndarray:
    """(out, n): the weights of each output, of a filter that is as wide as the step of the outputs."""
    scale = n / out
    distance = np.abs((np.arange(n) + 0.5)[None] - ((np.arange(out) + 0.5) * scale)[:, None]) / max(scale, 1.0)
    if mode == "bilinear":
        weights = np.maximum(0.0, 1.0 - distance)
    else:
        near = (1.5 * distance - 2.5) * distance**2 + 1
        far = -0.5 * (((distance - 5) * distance + 8) * distance - 4)
        weights = np.where(distance < 1, near, np.where(distance < 2, far, 0.0))
    return weights / weights.sum(1, keepdims=True)


def pillow_nearest(part: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, C) -> (h, w, C): the pixels that Pillow's nearest takes, of their numbers."""
    numbers = np.arange(part.shape[0] * part.shape[1], dtype=np.int32).reshape(part.shape[:2])
    taken = np.asarray(Image.fromarray(numbers, mode="I").resize(size[::-1], Image.Resampling.NEAREST))
    return part.reshape(-1, part.shape[2])[taken]


def resized_values(image: np.ndarray, size: tuple[int, int], mode: str) -> np.ndarray:
    """(H, W, C) -> (h, w, C) of the same dtype; integers are rounded to the nearest even one."""
    if mode == "nearest":
        return pillow_nearest(image, size)
    values = interpolated(image, size, mode)
    if image.dtype.kind != "f":
        limits = np.iinfo(image.dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return values.astype(image.dtype)
