"""Images of up to 32 channels, and of 16-bit and float values, equal those computed one sample at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

import largeds_native as lds
from largeds_native import _C
from largeds_native.errors import ArgumentError
from largeds_native.store.display import visible
from tests import reference
from tests.loading.test_gather import make_rows

UNITS = {"uint8": 1 / 255, "uint16": 1 / 65535, "int16": 1 / 32768}
STORED = ("uint8", "uint16", "int16", "float16", "float32")
FLOATS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
INTEGERS = {name: getattr(torch, name) for name in ("uint8", "uint16", "int16", "int32", "int64")}


def make_gather(rows: _C.Rows, shape: tuple[int, ...], dtype: str, *, planar: bool, output: dict[str, Any],
                augment: dict[str, Any]) -> _C.Gather:  # fmt: skip
    height, width, channels = shape
    layout = _C.ImageLayout(channels=channels, height=height, width=width, planar=planar, dtype=dtype)
    picture = _C.Picture(rows, _C.ReadSpec(layout), _C.OutputSpec(**output))
    return _C.Gather([picture], views=[_C.AugmentSpec(**augment)])


def gathered(gather: _C.Gather, indices: list[int], channels: int, dtype: torch.dtype, planar: bool, seed: int = 0,
             threads: int = 1) -> torch.Tensor:  # fmt: skip
    out = torch.empty((len(indices), *gather.sample_shapes[0]), dtype=dtype)
    if not planar:
        out = out.contiguous(memory_format=torch.channels_last)
    gather.run(indices, seed, 0, [out], _C.Pool(threads))
    return out


def sample(image: np.ndarray, index: int, seed: int, options: dict[str, Any], padding: float) -> np.ndarray:
    """image (H, W, C) -> (h, w, C) before normalisation: of the stored dtype, or float32 where it is resized."""
    draws = reference.SampleDraws(seed, 0, index)
    named = {"out_height": options.get("height"), "out_width": options.get("width")} | options
    named = {name: value for name, value in named.items() if value is not None}
    top, left, height, width = reference.chosen_crop(draws, *image.shape[:2], named)
    pad = options.get("padding", 0)
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), constant_values=image.dtype.type(padding))
    part = padded[top + pad : top + pad + height, left + pad : left + pad + width]
    if options["crop"] == "random_resized":
        size = (options["height"], options["width"])
        resize = reference.pillow_nearest(part, size) if options["filter"] == "nearest" else None
        part = reference.interpolated(part, size, options["filter"]) if resize is None else resize
    if options["flip"] > 0 and draws.uniform() < options["flip"]:
        part = part[:, ::-1]
    if options.get("vertical_flip", 0) > 0 and draws.uniform() < options["vertical_flip"]:
        part = part[::-1]
    return part


def finished(part: np.ndarray, stored: str, out: str, multiply: list[float], add: list[float]) -> torch.Tensor:
    """(h, w, C) -> (C, h, w) as a batch has it."""
    planes = part.transpose(2, 0, 1).copy()
    if out in INTEGERS:
        if planes.dtype != np.dtype(out):  # it was resized
            info = np.iinfo(out)
            planes = np.clip(np.rint(planes), info.min, info.max).astype(out)
        return torch.from_numpy(planes)
    factors = np.float32(multiply or [UNITS.get(stored, 1.0)]).astype(np.float64)[:, None, None]
    offsets = np.float32(add or [0.0]).astype(np.float64)[:, None, None]
    return torch.from_numpy((planes * factors + offsets).astype(np.float32)).to(FLOATS[out])


@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_equals_one_at_a_time(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    draw = data.draw
    stored = draw(st.sampled_from((*STORED, "int32", "int64")))
    indices_only = stored in ("int32", "int64")
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    channels = draw(st.integers(5, 32) if stored == "uint8" else st.integers(1, 32))
    crop = draw(st.sampled_from(["none", "center", "random", "random_resized"]))
    pad = draw(st.integers(0, 5)) if crop == "random" else 0
    probability = st.sampled_from([0.0, 0.5, 1.0])
    augment: dict[str, Any] = {"crop": crop, "padding": pad, "flip": draw(probability)}
    augment["vertical_flip"] = draw(probability)
    filters = ["nearest"] if indices_only else ["nearest", "bilinear", "bicubic"]
    augment["filter"] = draw(st.sampled_from(filters))
    if crop == "random_resized":
        augment["height"], augment["width"] = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    elif crop != "none":
        augment["height"] = draw(st.integers(1, height + 2 * pad))
        augment["width"] = draw(st.integers(1, width + 2 * pad))
    out = stored if indices_only else draw(st.sampled_from(sorted({stored, *FLOATS})))
    planar_out = draw(st.booleans())
    multiply, add = [], []
    if out in FLOATS and draw(st.booleans()):
        unit = UNITS.get(stored, 1.0)
        multiply, add = [unit * (1 + c / 8) for c in range(channels)], [c / 16 - 1 for c in range(channels)]
    padding = draw(st.sampled_from([0, 1, 7]))
    output = {"planar": planar_out, "dtype": out, "multiply": multiply, "add": add, "padding": padding}
    planar, seed = draw(st.booleans()), draw(st.integers(0, 2**64 - 1))

    images = reference.random_images((5, height, width, channels), stored, height)
    rows = make_rows(tmp_path_factory.mktemp("rows"), images, planar)
    gather = make_gather(rows, images.shape[1:], stored, planar=planar, output=output, augment=augment)
    indices = draw(st.lists(st.integers(0, 4), max_size=7))
    dtype = (INTEGERS | FLOATS)[out]
    found = gathered(gather, indices, channels, dtype, planar_out, seed, draw(st.integers(1, 3)))
    for got, index in zip(found, indices, strict=True):
        expected = finished(sample(images[index], index, seed, augment, padding), stored, out, multiply, add)
        check_equal(got, expected, resized=crop == "random_resized" and augment["filter"] != "nearest", stored=stored)


def check_equal(found: torch.Tensor, expected: torch.Tensor, *, resized: bool, stored: str) -> None:
    """Exact; what was resized, within 2e-6 of the range of stored values, and a unit of the output's rounding."""
    if not resized:
        # the sum in float64 is rounded twice, so that a tie may fall to the other side
        assert torch.equal(found, expected) or found.dtype in FLOATS.values()
        assert found.dtype == expected.dtype
        rtol = {torch.float32: 2.0**-22, torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}.get(found.dtype, 0.0)
        torch.testing.assert_close(found.double(), expected.double(), rtol=rtol, atol=1e-9)
    elif found.dtype in INTEGERS.values():
        assert (found.long() - expected.long()).abs().max() <= 1
    else:
        rtol = {torch.float32: 1e-6, torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}[found.dtype]
        atol = 1e-4 if found.dtype is torch.float32 else 1e-3
        torch.testing.assert_close(found.float(), expected.float(), rtol=rtol, atol=atol)


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("planar", [True, False])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_resizing_is_near_torch(tmp_path: Path, stored: str, planar: bool, mode: str) -> None:
    """Within 2e-6 of the largest value of torch's float64, and within 1 of its uint8."""
    images = reference.random_images((1, 61, 83, 5), stored, 0)
    if stored.startswith("float"):
        images = (images / np.abs(images).max()).astype(stored)
    rows = make_rows(tmp_path, images, planar)
    for size in [(61, 83), (17, 29), (120, 30), (7, 200), (61, 40), (30, 83)]:
        augment = {"crop": "center", "height": size[0], "width": size[1], "resize": size, "filter": mode}
        output = {"dtype": "float32", "multiply": [1.0] * 5, "add": [0.0] * 5}
        gather = make_gather(rows, (61, 83, 5), stored, planar=planar, output=output, augment=augment)
        found = gathered(gather, [0], 5, torch.float32, True)[0]
        planes = torch.from_numpy(images[0].transpose(2, 0, 1).astype(np.float64).copy())[None]
        expected = torch.nn.functional.interpolate(planes, size, mode=mode, antialias=True)[0].numpy()
        np.testing.assert_allclose(
            reference.interpolated(images[0], size, mode).transpose(2, 0, 1), expected, atol=1e-6
        )
        span = np.abs(images.astype(np.float64)).max()
        assert np.abs(found.numpy() - expected).max() <= 2e-6 * span
        if stored == "uint8" and mode == "bilinear":  # of bicubic, torch clamps what the first direction gives
            gather = make_gather(rows, (61, 83, 5), stored, planar=planar, output={"dtype": "uint8"}, augment=augment)
            bytes_of = torch.from_numpy(np.ascontiguousarray(images[0].transpose(2, 0, 1)))
            of_torch = tv.resize(bytes_of, list(size), interpolation=InterpolationMode(mode), antialias=True)
            whole = gathered(gather, [0], 5, torch.uint8, True)[0]
            assert (whole.int() - of_torch.int()).abs().max() <= 1


def test_nearest_has_the_centres_of_pillow_and_of_torch_nearest_exact(tmp_path: Path) -> None:
    images = reference.random_images((1, 13, 17, 1), "int64", 0)
    rows = make_rows(tmp_path, images, True)
    for size in [(5, 7), (26, 34), (13, 40), (1, 1)]:
        augment = {"crop": "center", "height": size[0], "width": size[1], "resize": size}
        output = {"dtype": "int64", "filter": "nearest"}
        gather = make_gather(rows, (13, 17, 1), "int64", planar=True, output=output, augment=augment)
        found = gathered(gather, [0], 1, torch.int64, True)[0]
        np.testing.assert_array_equal(found.numpy(), reference.pillow_nearest(images[0], size).transpose(2, 0, 1))
        numbers = torch.arange(13 * 17, dtype=torch.float32).view(1, 1, 13, 17)
        taken = torch.nn.functional.interpolate(numbers, size, mode="nearest-exact")[0, 0].long()
        assert torch.equal(found[0], torch.from_numpy(images).reshape(-1)[taken])


def test_float_specials_pass_through_bit_by_bit(tmp_path: Path) -> None:
    bits = np.array([0x7C01, 0xFE03, 0x7C00, 0x8000, 0x0001, 0x83FF], np.uint16)
    images = np.resize(bits.view(np.float16), (1, 2, 3, 2))
    gather = make_gather(make_rows(tmp_path, images, False), (2, 3, 2), "float16", planar=False,
                         output={"dtype": "float16"}, augment={"flip": 1.0})  # fmt: skip
    found = gathered(gather, [0], 2, torch.float16, True)[0]
    expected = images[0, :, ::-1].transpose(2, 0, 1)
    np.testing.assert_array_equal(found.numpy().view(np.uint16), np.ascontiguousarray(expected).view(np.uint16))


@pytest.mark.parametrize("channels", [1, 4])
def test_padding_and_filter_of_the_output_hold_for_uint8_too(tmp_path: Path, channels: int) -> None:
    images = reference.random_images((3, 9, 8, channels), "uint8", 1)
    rows = make_rows(tmp_path, images, True)
    augment = {"crop": "random", "height": 12, "width": 12, "padding": 3, "flip": 0.5}
    gather = make_gather(rows, (9, 8, channels), "uint8", planar=True, output={"dtype": "uint8", "padding": 255},
                         augment=augment)  # fmt: skip
    for got, index in zip(gathered(gather, [0, 1, 2], channels, torch.uint8, True), range(3), strict=True):
        expected = sample(images[index], index, 0, augment | {"filter": "bilinear"}, 255)
        np.testing.assert_array_equal(got.numpy(), expected.transpose(2, 0, 1))
    augment = {"crop": "random_resized", "height": 12, "width": 5, "filter": "bicubic"}
    gather = make_gather(rows, (9, 8, channels), "uint8", planar=True, output={"dtype": "uint8", "filter": "nearest"},
                         augment=augment)  # fmt: skip
    for got, index in zip(gathered(gather, [0, 1, 2], channels, torch.uint8, True), range(3), strict=True):
        expected = sample(images[index], index, 0, augment | {"filter": "nearest", "flip": 0.0}, 0)
        np.testing.assert_array_equal(got.numpy(), expected.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("stored", "channels", "output", "augment", "message"),
    [
        ("uint16", 40, {}, {}, "expected 1 to 32 channels, found 40"),
        ("uint16", 1, {"dtype": "uint8"}, {}, "images of uint16 give batches of uint16, float32.*found uint8"),
        ("uint8", 3, {"dtype": "int16"}, {}, "images of uint8 give batches of uint8.*found int16"),
        ("int64", 1, {"dtype": "float32"}, {}, "images of int64 give batches of int64, found float32"),
        ("int64", 1, {"dtype": "int64"}, {"crop": "random_resized", "height": 2, "width": 2}, "resized by nearest"),
        ("uint16", 1, {"padding": -1}, {}, "padding: expected a value of uint16"),
        ("uint8", 1, {"padding": 256}, {}, "padding: expected a value of uint8"),
        ("int16", 1, {"padding": 0.5}, {}, "padding: expected a value of int16"),
        ("float32", 1, {"padding": float("nan")}, {}, "padding: expected a finite number"),
        ("uint16", 5, {"multiply": [1.0] * 4}, {}, "multiply: expected 5 numbers"),
        ("uint16", 5, {"add": [float("inf")] * 5}, {}, "must be finite"),
        ("uint16", 5, {"filter": "best"}, {}, "found 'best'"),
    ],
)
def test_invalid_options(
    tmp_path: Path, stored: str, channels: int, output: dict[str, Any], augment: dict[str, Any], message: str
) -> None:
    images = np.zeros((1, 4, 4, channels), stored)
    rows = make_rows(tmp_path, images, True)
    with pytest.raises(ArgumentError, match=message):
        make_gather(rows, (4, 4, channels), stored, planar=True, output=output, augment=augment)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float16", "float32"])
def test_a_store_goes_through_hdf5_and_is_verified_shown_and_trained_on(tmp_path: Path, dtype: str) -> None:
    images = reference.random_images((12, 5, 16, 16), dtype, 0)
    np.save(tmp_path / "x.npy", images)
    np.save(tmp_path / "y.npy", np.arange(12) % 3)
    mapped = lds.open(tmp_path / "x.npy", label=tmp_path / "y.npy")
    store = lds.from_hdf5(mapped.to_hdf5(tmp_path / "x.h5"), tmp_path / "x.lds")
    assert (store.channels, store.dtype, store.layout) == (5, np.dtype(dtype), "CHW")
    np.testing.assert_array_equal(np.asarray(store.images), images)
    np.testing.assert_array_equal(np.asarray(lds.open(tmp_path / "x.h5").images), images)
    assert store.verify().ok
    assert store.statistics == mapped.statistics
    picture = visible(images[0], "CHW", None, None)
    assert picture.shape == (16, 16, 3)
    assert picture.dtype == np.uint8
    mean, std = store.statistics
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(5 * 12 * 12, 3))
    trainer = lds.Trainer(model, torch.optim.SGD(model.parameters(), 0.01), torch.nn.CrossEntropyLoss(), progress=False)
    half = dtype == "float16"  # a float store gives its own dtype
    augment = lds.Augment(resized_crop=12, flip=0.5)
    with lds.Loader(store, 4, augment=augment, mean=mean, std=std) as loader:
        (batch, _), *_ = loader
        assert batch.dtype is (torch.float16 if half else torch.float32)
        if not half:
            trainer.fit(loader, 1)
