"""Images that are arrays of values, up to 32 channels and of 16 bits or floats, are packed as they are."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.v2 import functional as tv

import largeds_native as lds
from largeds_native import sources
from largeds_native._internal.arrays import ValueSpec
from largeds_native.errors import ArgumentError, PackError
from largeds_native.packing import verify_sources
from tests import reference
from tests.builders.images import png

KEEP: dict[str, Any] = {"resize": None, "crop": None, "progress": False}
DTYPES = ("uint8", "uint16", "int16", "float16", "float32")


def centre(image: np.ndarray[Any, Any], crop: int | tuple[int, int]) -> np.ndarray[Any, Any]:
    """torchvision's center_crop of (H, W, C), by the numbers of the pixels."""
    height, width = image.shape[:2]
    numbers = torch.arange(height * width).reshape(1, height, width)
    chosen = tv.center_crop(numbers, [crop, crop] if isinstance(crop, int) else list(crop))[0].numpy()
    return image.reshape(height * width, -1)[chosen]


def expected_row(image: np.ndarray[Any, Any], resize: Any, crop: Any, filter_: str) -> np.ndarray[Any, Any]:
    """(H, W, C) -> (h, w, C) of the same dtype: resized in float64, rounded, and cropped."""
    if resize is not None:
        sides = [resize] if isinstance(resize, int) else list(resize)
        size = tuple(tv.resize(torch.zeros(1, *image.shape[:2]), sides).shape[1:])
        if size != image.shape[:2]:
            image = reference.resized_values(image, size, filter_)
    return image if crop is None else centre(image, crop)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_rows_equal_those_computed_one_by_one(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    draw = data.draw
    dtype = draw(st.sampled_from(DTYPES))
    channels = draw(st.sampled_from([2, 4, 5, 13, 32] if dtype == "uint8" else [1, 2, 3, 4, 5, 13, 32]))
    low = max(channels + 1, 6)  # so that the shape tells which axis has the channels
    height, width = draw(st.integers(low, 40)), draw(st.integers(low, 40))
    filter_ = draw(st.sampled_from(["bilinear", "bicubic", "nearest"]))
    resize = draw(st.sampled_from([None, 6, 9, (7, 11), (20, 20)]))
    crop = draw(st.sampled_from([None, 5, (3, 6)]))
    layout = draw(st.sampled_from(["CHW", "HWC"]))
    images = reference.random_images((3, height, width, channels), dtype, draw(st.integers(0, 99)))
    given_as = images.transpose(0, 3, 1, 2) if draw(st.booleans()) else np.ascontiguousarray(images)
    source = sources.arrays(given_as)
    assert source.values == ValueSpec(np.dtype(dtype), channels)
    options = {"resize": resize, "crop": crop, "interpolation": filter_, "layout": layout, "dtype": dtype}
    store = lds.pack(source, tmp_path_factory.mktemp("s") / "s", progress=False, **options)
    found = np.asarray(store.images)
    assert store.dtype == np.dtype(dtype)
    if layout == "CHW":
        found = found.transpose(0, 2, 3, 1)
    for row, image in zip(found, images, strict=True):
        expected = expected_row(image, resize, crop, filter_)
        if dtype.startswith("float") and resize is not None:
            tolerance = 2e-3 if dtype == "float16" else 1e-5
            np.testing.assert_allclose(row, expected, rtol=tolerance, atol=tolerance)
        elif resize is not None and filter_ != "nearest":
            limits = np.iinfo(dtype)
            exact = expected_row(image.astype(np.float64), resize, crop, filter_).clip(limits.min, limits.max)
            # float32, which is within 2e-6 of the range, may round a half to the other side
            assert np.abs(row - exact).max() <= 0.5 + 2e-6 * limits.max
        else:
            np.testing.assert_array_equal(row, expected)


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_from_arrays_to_batches(tmp_path: Path, dtype: str, channels: int) -> None:
    images = reference.random_images((10, channels, 20, 24), dtype, 0)
    source = sources.arrays(images, np.arange(10) % 2)
    store = lds.pack(source, tmp_path / "s", shard_bytes=4 * images[0].nbytes, **KEEP)
    np.testing.assert_array_equal(store.images, images)
    assert (store.dtype, store.layout, len(store.shards)) == (np.dtype(dtype), "CHW", 3)
    assert store.metadata.options["channels"] == channels
    assert store.verify().ok
    assert verify_sources(store, source).ok
    changed = images.copy()
    changed[3, 0, 4, 5] += 1
    assert verify_sources(store, sources.arrays(changed, np.arange(10) % 2)).different == ("#3",)
    top = {"uint16": 65535}.get(dtype, 1)
    np.testing.assert_allclose(store.statistics[0], images.mean((0, 2, 3), dtype=np.float64) / top, rtol=1e-6)
    batch, labels = next(iter(lds.Loader(store, 10)))
    np.testing.assert_allclose(batch.numpy(), images.astype(np.float64) / top, rtol=1e-6)
    assert labels.tolist() == [i % 2 for i in range(10)]


def test_a_pack_goes_on_and_its_store_is_known(tmp_path: Path) -> None:
    images = reference.random_images((10, 7, 6, 6), "int16", 0)
    first = lds.pack(sources.arrays(images), tmp_path / "s", **KEEP)
    again = lds.pack(sources.arrays(images), tmp_path / "s", **KEEP)
    assert again.identity == first.identity
    with pytest.raises(PackError, match="another job"):
        lds.pack(sources.arrays(images[:, :6]), tmp_path / "s", **KEEP)


def test_a_wide_store_is_packed_again(tmp_path: Path) -> None:
    images = reference.random_images((4, 5, 20, 24), "uint16", 0)
    first = lds.pack(sources.arrays(images), tmp_path / "a", **KEEP)
    second = lds.pack(first, tmp_path / "b", resize=None, crop=8, layout="HWC", progress=False)
    np.testing.assert_array_equal(second.images, images[:, :, 6:14, 8:16].transpose(0, 2, 3, 1))


class Samples:
    """A Dataset of given images."""

    def __init__(self, images: list[Any]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        return self.images[index], index


@pytest.mark.parametrize("dtype", ["int16", "float16", "float32", "uint8"])
@pytest.mark.parametrize("kind", ["array", "tensor"])
def test_datasets_of_several_channels(tmp_path: Path, kind: str, dtype: str) -> None:
    images = reference.random_images((3, 6, 9, 8), dtype, 0)  # (N, C, H, W)
    made = [torch.from_numpy(image) if kind == "tensor" else image.transpose(1, 2, 0) for image in images]
    store = lds.pack(Samples(made), tmp_path / "s", **KEEP)
    np.testing.assert_array_equal(store.images, images)
    assert store.report is not None
    assert store.report.decoders == {"source": 3}


def test_floats_of_a_dataset_are_kept_where_dtype_says_so(tmp_path: Path) -> None:
    images = [torch.rand(3, 8, 8) for _ in range(3)]
    kept = lds.pack(Samples(images), tmp_path / "kept", dtype="float32", **KEEP)
    np.testing.assert_array_equal(kept.images, torch.stack(images))
    eight = lds.pack(Samples(images), tmp_path / "eight", **KEEP)
    np.testing.assert_array_equal(eight.images, np.rint(torch.stack(images).numpy() * 255))
    doubles = [image.double().numpy().transpose(1, 2, 0) for image in images]
    half = lds.pack(Samples(doubles), tmp_path / "half", dtype="float16", **KEEP)
    np.testing.assert_array_equal(half.images, torch.stack(images).half())
    scaled: dict[str, Any] = {"mean": [0.5] * 3, "std": [0.5] * 3, "dtype": "float32"}
    normalised = lds.pack(Samples(images), tmp_path / "normalised", **scaled, **KEEP)
    np.testing.assert_allclose(normalised.images, np.asarray(eight.images) / 127.5 - 1, atol=1e-6)


def file_of(values: np.ndarray[Any, Any], form: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, form)
    return stream.getvalue()


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize("resize", [None, (9, 7)])
def test_grey_files_of_sixteen_bits(tmp_path: Path, form: str, resize: Any) -> None:
    values = reference.random_images((3, 12, 10), "uint16", 1)
    folder = tmp_path / "scans"
    folder.mkdir()
    for i, one in enumerate(values):
        (folder / f"{i}.{form.lower()}").write_bytes(file_of(one, form))
    store = lds.pack(folder, tmp_path / "s", dtype="uint16", resize=resize, crop=None, progress=False)
    assert (store.dtype, store.metadata.shape) == (np.dtype(np.uint16), (1, *(resize or (12, 10))))
    for row, one in zip(store.images, values, strict=True):
        expected = expected_row(one[..., None], resize, None, "bilinear")[..., 0]
        assert np.abs(row[0].astype(int) - expected).max() <= (resize is not None)
    assert verify_sources(store).ok
    (folder / "3.png").write_bytes(png(np.zeros((12, 10, 1), int), 8, 0))
    (folder / "4.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99))
    again = lds.pack(folder, tmp_path / "t", dtype="uint16", resize=resize, crop=None, max_failures=2, progress=False)
    assert again.report is not None
    reasons = {failure.source: (failure.reason, failure.error) for failure in again.report.failures}
    assert reasons["3.png"][0] == "sixteen_bit"
    assert "expected grey of 16 bits a pixel, found an image of" in reasons["3.png"][1]
    assert reasons["4.png"][0] in ("corrupt", "unsupported")


BAD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "too many channels": (np.zeros((2, 40, 41, 41), np.uint8), {}, "images: expected images of at most 32 channels"),
    "codec": (np.zeros((2, 5, 8, 8), np.uint8), {"codec": "jpeg"}, "a JPEG row has 8 bits and 1 or 3 channels"),
    "mode": (np.zeros((2, 5, 8, 8), np.uint8), {"mode": "L"}, "they keep their channels: leave mode out"),
    "augment": (np.zeros((2, 5, 8, 8), np.uint8), {"augment": lds.Augment(flip=0.5)}, "pass augment to the Loader"),
    "mean": (
        np.zeros((2, 5, 8, 8), np.float32),
        {"dtype": "float32", "mean": [0] * 3, "std": [1] * 3},
        "pass mean and std to the Loader",
    ),
    "antialias": (np.zeros((2, 5, 8, 8), np.uint8), {"antialias": False, "resize": 4}, "resized with antialiasing"),
    "dtype": (np.zeros((2, 5, 8, 8), np.uint16), {"dtype": "float32"}, "expected uint16 or int16, found 'float32'"),
    "8 bits": (np.zeros((2, 5, 8, 8), np.uint8), {"dtype": "uint16"}, "expected uint8, found 'uint16'"),
    "doubles": (np.zeros((2, 5, 8, 8)), {}, "are float64 with 5 channels: expected float16 or float32, found none"),
    "wide integers": (np.zeros((2, 5, 8, 8), np.int64), {}, "are int64 with 5 channels: expected uint16 or int16"),
    "strings": (np.zeros((2, 5, 8, 8), "S2"), {}, "expected images of numbers"),
    "sixteen bits": (
        np.zeros((2, 5, 8, 8), np.uint16),
        {"sixteen_bit": "scale"},
        "they keep all bits: leave sixteen_bit out",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_options(tmp_path: Path, name: str) -> None:
    images, options, words = BAD[name]
    with pytest.raises(ArgumentError, match=words):
        lds.pack(sources.arrays(images), tmp_path / "s", **({"progress": False} | options))
    assert not (tmp_path / "s").exists()


def test_tensors_that_numpy_has_not(tmp_path: Path) -> None:
    images = torch.zeros(2, 4, 8, 8, dtype=torch.bfloat16)
    with pytest.raises(ArgumentError, match=r"a dtype that numpy has, found torch\.bfloat16"):
        sources.arrays(images)
    with pytest.raises(ArgumentError, match=r"a dtype that numpy has, found torch\.bfloat16"):
        lds.pack(Samples(list(images)), tmp_path / "s", **KEEP)


def test_bad_dtype_of_files(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(np.zeros((4, 4, 1), int), 8, 0))
    with pytest.raises(ArgumentError, match="dtype='int16': image files have no negative values"):
        lds.pack(tmp_path, tmp_path.with_name("out"), dtype="int16", **KEEP)
    with pytest.raises(ArgumentError, match="dtype: expected one of uint8, uint16, int16"):
        lds.pack(tmp_path, tmp_path.with_name("out"), dtype="int64", **KEEP)


def test_samples_that_do_not_fit_the_first(tmp_path: Path) -> None:
    good = np.zeros((8, 8, 5), np.uint16)
    bad = [good[..., :4], good.astype(np.uint8), good.astype(np.float32), good.astype(np.int64) - 1]
    store = lds.pack(Samples([good, *bad, good]), tmp_path / "s", max_failures=4, **KEEP)
    assert len(store) == 2
    assert store.report is not None
    messages = [failure.error for failure in store.report.failures]
    for message, words in zip(messages, ("channels, found 4", "uint8", "float32", "-1 to -1"), strict=True):
        assert words in message


def test_arrays_of_another_dtype_are_another_job(tmp_path: Path) -> None:
    values = np.arange(4 * 5 * 8 * 8).reshape(4, 5, 8, 8).astype("<u2")
    lds.pack(sources.arrays(values), tmp_path / "s", **KEEP)
    for other in (values.view(">u2"), values.view("<i2")):
        with pytest.raises(PackError, match="another job"):
            lds.pack(sources.arrays(other), tmp_path / "s", **KEEP)


def test_floats_that_do_not_fit_fail(tmp_path: Path) -> None:
    values = np.ones((3, 4, 8, 8), np.float32)
    values[1, 2, 3, 4] = 1e6
    values[2, 0, 0, 0] = np.inf
    store = lds.pack(sources.arrays(values), tmp_path / "s", dtype="float16", max_failures=1, **KEEP)
    np.testing.assert_array_equal(store.images, values[[0, 2]].astype(np.float16))
    assert store.report is not None
    assert store.report.failures[0].error == "expected values of float16, found up to 1e+06"
