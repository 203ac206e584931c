"""ColorAugment: the pixels of torchvision one by one, keyed draws, and bad input."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import interpolate

import largeds_native as lds
from largeds_native.errors import ArgumentError
from largeds_native.transform import color as color_module
from largeds_native.transform import color_ops
from tests.transform.one_by_one import augmented

ROOT = Path(__file__).parent.parent.parent
ALL: dict[str, Any] = {
    "brightness": 0.8,
    "contrast": 0.8,
    "saturation": 0.8,
    "hue": 0.2,
    "p": 0.8,
    "grayscale": 0.2,
    "blur": 0.5,
    "blur_kernel": 9,
    "solarize": 0.2,
    "erasing": 0.3,
    "erasing_value": (0.485, 0.456, 0.406),
}
OPERATIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "brightness": {"brightness": 0.6},
    "contrast": {"contrast": 0.6},
    "saturation": {"saturation": (0.0, 2.0)},
    "hue": {"hue": 0.5},
    "jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},
    "grayscale": {"grayscale": 1},
    "blur": {"blur": 1, "blur_kernel": 23},
    "solarize": {"solarize": 0.5, "solarize_threshold": 0.25},
    "erasing": {"erasing": 1, "erasing_value": 0.5},
    "all": ALL,
}


def pictures(n: int, height: int, width: int, channels: int = 3, seed: int = 0) -> Tensor:
    """Smooth images over the whole range, with grey, black and white ones among them."""
    random = torch.Generator().manual_seed(seed)
    images = interpolate(torch.rand(n, channels, 7, 7, generator=random) * 340 - 40, (height, width), mode="bicubic")
    images[::5] = images[::5, :1]
    images[3:4], images[4:5] = 0, 255
    return images.clamp(0, 255).to(torch.uint8)


def assert_close(ours: Tensor, expected: Tensor) -> None:
    """The tolerance that ColorAugment states."""
    assert ours.dtype == expected.dtype
    apart = (ours.double() - expected.double()).abs()
    if ours.dtype == torch.uint8:
        assert float((apart > 0).double().mean()) < 0.001
        assert float((apart > 1).double().mean()) < 0.0001
        assert float(apart.max()) <= 16  # a difference of 1 before a strong saturation
    else:
        assert float(apart.max()) < 1e-4


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("name", OPERATIONS)
def test_the_pixels_are_torchvisions(name: str, dtype: torch.dtype) -> None:
    color = lds.ColorAugment(**OPERATIONS[name])
    images = pictures(24, 40, 48)
    images = images if dtype == torch.uint8 else images.to(dtype) / 255
    ours = color(images, seed=5, epoch=2, view=1)
    assert_close(ours, augmented(images, color, range(24), seed=5, epoch=2, view=1))
    assert torch.equal(ours, images) == (name == "nothing")


@pytest.mark.parametrize("name", OPERATIONS)
def test_images_of_one_channel(name: str) -> None:
    color = lds.ColorAugment(**{k: v for k, v in OPERATIONS[name].items() if k != "erasing_value"})
    images = pictures(12, 30, 20, channels=1)
    options = {"blur_kernel": 9} if color.blur_kernel == 23 else {}
    color = lds.ColorAugment(**({k: v for k, v in OPERATIONS[name].items() if k != "erasing_value"} | options))
    assert_close(color(images), augmented(images, color, range(12)))
    assert_close(color(images / 255), augmented(images / 255, color, range(12)))


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(0, 9),
    size=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    channels=st.sampled_from([1, 3]),
    floats=st.booleans(),
    channels_last=st.booleans(),
    seed=st.integers(0, 2**64 - 1),
    data=st.data(),
)
def test_any_shape(
    n: int, size: tuple[int, int], channels: int, floats: bool, channels_last: bool, seed: int, data: st.DataObject
) -> None:
    kernel = data.draw(st.integers(0, min(*size, 12) - 1)) * 2 + 1
    probability = st.sampled_from([0, 0.5, 1])
    options = {name: data.draw(probability) for name in ("p", "grayscale", "blur", "solarize", "erasing")}
    color = lds.ColorAugment(0.4, 0.4, 0.4, 0.1, blur_kernel=kernel, **options)
    images = pictures(n, *size, channels)
    images = images / 255 if floats else images
    images = images.contiguous(memory_format=torch.channels_last) if channels_last else images
    keys = data.draw(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=n, max_size=n))
    ours = color(images, seed=seed, keys=keys)
    assert ours.stride() == images.stride()
    if n:
        apart = (ours.double() - augmented(images, color, keys, seed=seed).double()).abs()
        assert float(apart.max()) < (1e-4 if floats else 20)
        assert float((apart > (1e-4 if floats else 1)).double().mean()) < 0.01  # few pixels in all


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(dtype: torch.dtype) -> None:
    color, images = lds.ColorAugment(**ALL), (pictures(8, 20, 20) / 255).to(dtype)
    assert torch.equal(color(images), color(images.float()).to(dtype))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_out(dtype: torch.dtype, channels_last: bool) -> None:
    color, images = lds.ColorAugment(**ALL), pictures(9, 20, 20).to(dtype) / (1 if dtype == torch.uint8 else 255)
    images = images.to(dtype)
    expected, given = color(images), images.clone()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    out = torch.empty(images.shape, dtype=dtype, memory_format=layout)
    assert color(images, out=out) is out
    assert torch.equal(out, expected)
    assert torch.equal(images, given)
    assert color(images, out=images) is images
    assert torch.equal(images, expected)
    assert torch.equal(color(given[:, :, 1:, ::2]), color(given[:, :, 1:, ::2].contiguous()))


@pytest.mark.parametrize("block", [1, 3, 100])
def test_a_sample_is_the_same_in_any_batch(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    color, images = lds.ColorAugment(**ALL), pictures(30, 21, 23)
    keys = np.arange(100, 130) * 10**9
    whole = {True: color(images, keys=keys, seed=3), False: color(images / 255, keys=keys, seed=3)}
    monkeypatch.setattr(color_module, "BLOCK_BYTES", block * 3 * 21 * 23 * 4)
    order = np.random.default_rng(0).permutation(30)
    for low in (0, 7, 20):
        some = order[low : low + 13]
        for whole_numbers, expected in whole.items():
            part = images[some] if whole_numbers else images[some] / 255
            assert torch.equal(color(part, keys=torch.from_numpy(keys[some]), seed=3), expected[some])


def test_the_number_of_threads_changes_nothing() -> None:
    color, images = lds.ColorAugment(**ALL | {"blur_kernel": 23}), pictures(6, 150, 170)
    threads = torch.get_num_threads()
    try:
        found = []
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            found.append((color(images), color(images / 255)))
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for one in found[1:] for a, b in zip(one, found[0], strict=True))


def test_draws_depend_on_all_of_the_key() -> None:
    color, images = lds.ColorAugment(0.4, 0.4, 0.4, 0.1), pictures(1, 16, 16).expand(4, -1, -1, -1)
    given = [
        {},
        {"seed": 1},
        {"epoch": 1},
        {"view": 1},
        {"keys": [4, 5, 6, 7]},
        {"seed": 2**64 - 1, "epoch": 2**63 - 1},
    ]
    found = [image for options in given for image in color(images, **options)]
    assert all(not torch.equal(a, b) for i, a in enumerate(found) for b in found[:i])
    assert torch.equal(color(images, keys=[2, 2, 2, 2])[3], color(images)[2])


def test_an_option_does_not_change_the_draws_of_another() -> None:
    keys = np.arange(50)
    plain = lds.ColorAugment(0.4, 0.4, 0.4, 0.1).draw(keys, (32, 32))
    more = lds.ColorAugment(**ALL | {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}).draw(
        keys, (32, 32)
    )
    assert np.array_equal(plain.factors, more.factors)
    assert np.array_equal(plain.order, more.order)


def test_distribution_of_the_draws() -> None:
    """Within five standard deviations."""
    n = 20_000
    color = lds.ColorAugment(0.4, (0.5, 2), 1.5, 0.2, p=0.8, grayscale=0.2, blur=0.5, solarize=0.1, erasing=0.25)
    draws = color.draw(np.arange(n), (64, 48), seed=9)

    def share(drawn: Any, expected: float) -> None:
        assert abs(float(np.mean(drawn)) - expected) < 5 * math.sqrt(expected * (1 - expected) / n)

    for drawn, probability in (
        (draws.jitter, 0.8),
        (draws.grayscale, 0.2),
        (draws.blur, 0.5),
        (draws.solarize, 0.1),
        (draws.boxes[:, 2] > 0, 0.25),
    ):
        share(drawn, probability)
    share(draws.jitter & draws.blur & draws.grayscale, 0.8 * 0.5 * 0.2)
    ranges = [(0.6, 1.4), (0.5, 2), (0, 2.5), (-0.2, 0.2), (0.1, 2.0)]
    for values, (low, high) in zip([*draws.factors.T, draws.sigma], ranges, strict=True):
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < values.max() <= high
        share(values < (low + high) / 2, 0.5)
    _, counts = np.unique(draws.order, axis=0, return_counts=True)
    assert len(counts) == 24
    for count in counts:
        assert abs(count - n / 24) < 5 * math.sqrt(n / 24)
    boxes = draws.boxes[draws.boxes[:, 2] > 0]
    assert (boxes[:, 0] + boxes[:, 2]).max() <= 64
    assert (boxes[:, 1] + boxes[:, 3]).max() <= 48
    area = boxes[:, 2] * boxes[:, 3] / (64 * 48)
    assert 0.015 < area.min() < 0.03 < 0.31 < area.max() < 0.35


def test_a_box_that_does_not_fit_erases_nothing() -> None:
    images = pictures(8, 8, 8)
    color = lds.ColorAugment(erasing=1, erasing_scale=(1, 1), erasing_ratio=(1, 1))
    assert torch.equal(color(images), images)


def test_erasing_with_the_mean_is_zero_after_normalising() -> None:
    mean = torch.tensor([0.485, 0.456, 0.406])
    color = lds.ColorAugment(erasing=1, erasing_scale=(0.5, 0.5), erasing_value=mean.tolist())
    normalised = color(pictures(4, 16, 16) / 255) - mean.view(3, 1, 1)
    assert ((normalised == 0).sum((1, 2, 3)) > 300).all()


def test_the_convolution_for_other_devices_is_the_same() -> None:
    x = pictures(5, 20, 26).float()
    kernels = color_ops.gaussian_kernels(torch.tensor([0.1, 0.5, 1, 1.5, 2], dtype=torch.float64), 8).float()
    for axis, padding in ((2, (0, 0, 8, 8)), (3, (8, 8, 0, 0))):
        padded = torch.nn.functional.pad(x, padding, mode="reflect")
        other = color_ops._grouped_convolution(padded, kernels, axis, torch.empty_like(x))
        torch.testing.assert_close(color_ops._convolve(x, kernels, axis, torch.empty_like(x)), other)


def test_under_autocast_and_with_gradients() -> None:
    color, images = lds.ColorAugment(**ALL), (pictures(5, 20, 20) / 255).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = color(images)
    assert torch.equal(ours, color(images.detach()))
    assert not ours.requires_grad


def test_in_a_forked_process() -> None:
    program = """
import os, torch, largeds_native as lds
images, color = torch.randint(0, 256, (4, 3, 120, 130), dtype=torch.uint8), lds.ColorAugment(0.4, blur=1)
expected = color(images)
if (child := os.fork()) == 0:
    os._exit(0 if torch.equal(color(images), expected) else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


def test_the_threads_run_operations_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from largeds_native._internal import serial

    numbers: list[int] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        serial.run_in_threads(lambda: numbers.append(torch.get_num_threads()), 2)
        assert numbers == [1, 1]
        with pytest.raises(ZeroDivisionError):
            serial.run_in_threads(lambda: 1 // 0, 2)
        # Ctrl-C
        waits = [lambda calls: time.sleep(0.01), serial.wait]

        def interrupted(calls: Any) -> None:
            waits.pop(0)(calls)
            if waits:
                raise KeyboardInterrupt

        with monkeypatch.context() as context:
            context.setattr(serial, "wait", interrupted)
            with pytest.raises(KeyboardInterrupt):
                serial.run_in_threads(lambda: (time.sleep(0.2), numbers.append(5)), 2)
        assert numbers[2:] == [5, 5]
        # a torch without OpenMP
        monkeypatch.setattr(serial, "_torch_library", lambda: Path("/nowhere"))
        serial._omp_set_num_threads.cache_clear()
        assert serial._omp_set_num_threads() is None
        monkeypatch.setattr(serial, "_pools", {})
        serial.run_in_threads(lambda: numbers.append(torch.get_num_threads()), 1)
        assert numbers[4:] == [2]
    finally:
        serial._omp_set_num_threads.cache_clear()
        torch.set_num_threads(threads)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", OPERATIONS)
def test_on_a_device(name: str) -> None:
    color = lds.ColorAugment(**OPERATIONS[name])
    for images in (pictures(24, 40, 48), pictures(24, 40, 48) / 255):
        assert_close(color(images.cuda()).cpu(), color(images))
        torch.cuda.set_sync_debug_mode("error")
        try:
            color(images.cuda(non_blocking=True))
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_the_largest_factors_give_pixels() -> None:
    color = lds.ColorAugment(1e6, 1e6, 1e6, 0.5)
    for images in (pictures(8, 9, 9), pictures(8, 9, 9) / 255, torch.zeros(4, 3, 9, 9), torch.ones(4, 3, 9, 9)):
        changed = color(images).float()
        assert changed.isfinite().all()
        assert changed.min() >= 0
        assert changed.max() <= (1.0001 if images.is_floating_point() else 255)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"brightness": -1}, r"brightness: expected a number from 0 to 1e\+06, or \(low, high\), found -1"),
        ({"brightness": 1e300}, r"brightness: expected a number from 0 to 1e\+06, or \(low, high\), found 1e\+300"),
        ({"saturation": (0, 1e7)}, "saturation: expected a number or .* from 0 to"),
        (
            {"contrast": (2, 1)},
            r"contrast: expected a number or \(low, high\), low <= high, from 0 to 1e\+06, found \(2, 1\)",
        ),
        ({"saturation": "1"}, "saturation: expected a number or"),
        ({"saturation": (1,)}, "saturation: expected a number or"),
        ({"brightness": math.nan}, "brightness: expected"),
        ({"brightness": True}, "brightness: expected"),
        ({"hue": 0.6}, "hue: expected a number from 0 to 0.5, or .* found 0.6"),
        ({"hue": (-0.6, 0)}, r"hue: expected .* from -0.5 to 0.5, found \(-0.6, 0\)"),
        ({"p": 1.1}, "p: expected a probability, from 0 to 1, found 1.1"),
        ({"grayscale": -0.1}, "grayscale: expected a probability"),
        ({"blur": None}, "blur: expected a probability"),
        ({"solarize": "a"}, "solarize: expected a probability"),
        ({"erasing": 2}, "erasing: expected a probability"),
        ({"blur_kernel": 4}, "blur_kernel: expected an odd number of pixels, found 4"),
        ({"blur_kernel": 0}, "blur_kernel: expected a whole number from 1"),
        ({"blur_kernel": 3.5}, "blur_kernel: expected a whole number"),
        ({"blur_sigma": (0, 2)}, r"blur_sigma: expected \(low, high\), low <= high, above 0, found \(0, 2\)"),
        ({"blur_sigma": 2}, "blur_sigma"),
        (
            {"solarize_threshold": 128},
            "solarize_threshold: expected a share of the largest value, from 0 to 1, found 128",
        ),
        ({"erasing_scale": (0.1, 1.5)}, "erasing_scale: expected .* from 0 to 1"),
        ({"erasing_ratio": (0, 1)}, "erasing_ratio"),
        ({"erasing_value": 124}, r"erasing_value: expected numbers in \[0, 1\] units"),
        ({"erasing_value": ()}, "erasing_value"),
        ({"erasing_value": "random"}, "erasing_value"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        lds.ColorAugment(**options)


@pytest.mark.parametrize(
    ("images", "kwargs", "message"),
    [
        (np.zeros((1, 3, 8, 8), np.uint8), {}, r"images: expected a tensor \(n, C, H, W\)"),
        (torch.zeros(3, 8, 8), {}, r"images: expected .* found torch.float32 of shape \(3, 8, 8\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.int64), {}, "found torch.int64"),
        (torch.zeros(1, 4, 8, 8), {}, "images: expected 1 or 3 channels, found 4"),
        (torch.zeros(1, 3, 0, 8), {}, "images: expected at least one pixel each"),
        (torch.full((1, 3, 8, 8), 255.0), {}, r"images: expected floats in \[0, 1\], found 255 to 255: change colours"),
        (torch.full((1, 3, 8, 8), -2.0), {}, "found -2 to -2"),
        (torch.full((1, 3, 8, 8), math.nan).half(), {}, "found nan to nan"),
        (torch.zeros(2, 3, 8, 8), {"keys": [1]}, "keys: expected 2 integers, one for each image, found"),
        (torch.zeros(2, 3, 8, 8), {"keys": [0.5, 1]}, "keys: expected 2 integers"),
        (torch.zeros(2, 3, 8, 8), {"keys": [[1], [2, 3]]}, "keys: expected 2 integers"),
        (torch.zeros(2, 3, 8, 8), {"keys": [True, False]}, "keys: expected 2 integers"),
        (torch.zeros(2, 3, 8, 8), {"seed": -1}, "seed: expected a whole number from 0"),
        (torch.zeros(2, 3, 8, 8), {"epoch": 0.5}, "epoch: expected a whole number"),
        (torch.zeros(2, 3, 8, 8), {"view": 2**31}, "view: expected a whole number"),
        (torch.zeros(2, 3, 8, 8), {"out": torch.zeros(2, 3, 8, 9)}, r"out: expected shape, .* found \(2, 3, 8, 9\)"),
        (torch.zeros(2, 3, 8, 8), {"out": torch.zeros(2, 3, 8, 8).half()}, "out: expected .* found .*float16"),
        (torch.zeros(2, 3, 8, 8), {"out": 5}, "out: expected .* found 5"),
    ],
)
def test_bad_arguments(images: Any, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        lds.ColorAugment(0.4)(images, **kwargs)


def test_options_that_do_not_fit_the_images() -> None:
    small = torch.zeros(1, 3, 11, 30)
    with pytest.raises(ArgumentError, match=r"blur_kernel: half of 23 pixels .* 11x30: pass blur_kernel=3 or so"):
        lds.ColorAugment(blur=0.5)(small)
    lds.ColorAugment(0.4)(small)
    with pytest.raises(
        ArgumentError, match="erasing_value: expected one number, or one for each of 3 channels, found 2"
    ):
        lds.ColorAugment(erasing=1, erasing_value=(0.1, 0.2))(small)
