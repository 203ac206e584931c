"""decode_batch: sources, sizes, layouts, the fallback to Pillow, failures."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from largeds_native.errors import ArgumentError, DecodeError
from largeds_native.packing.decoding import DecodeFailure, decode_batch
from tests.builders.images import encode, pixels
from tests.codec.test_rows import reference


def test_paths_and_bytes(tmp_path: Path) -> None:
    data = [encode(pixels(60, 90, seed=seed)) for seed in range(5)]
    for i, file in enumerate(data):
        (tmp_path / f"{i}.jpg").write_bytes(file)
    sources = [str(tmp_path / "0.jpg"), tmp_path / "1.jpg", *data[2:]]
    batch = decode_batch(sources, resize=40, crop=32, threads=2)
    assert batch.shape == (5, 3, 32, 32)
    assert batch.dtype == torch.uint8
    for image, file in zip(batch, data, strict=True):
        expected = reference(file, resize=(40, 0), crop=(32, 32))
        np.testing.assert_array_equal(image.permute(1, 2, 0), expected)


def test_threads_change_nothing() -> None:
    sources = [encode(pixels(30 + i, 50, seed=i), ("JPEG", "PNG", "WEBP", "BMP")[i % 4]) for i in range(20)]
    sources[7] = sources[7][:60]
    one, failures = decode_batch(sources, resize=20, crop=16, threads=1, on_error="skip")
    assert [f.index for f in failures] == [7]
    for threads in (2, 5, 64):
        batch, found = decode_batch(sources, resize=20, crop=16, threads=threads, on_error="skip")
        assert torch.equal(batch, one)
        assert found == failures


def test_the_extension_is_ignored(tmp_path: Path) -> None:
    """ImageNet has a PNG named .JPEG."""
    data = {form: encode(pixels(30, 40), form) for form in ("PNG", "WEBP", "GIF")}
    for form, file in data.items():
        (tmp_path / f"{form}.JPEG").write_bytes(file)
    batch = decode_batch([tmp_path / f"{form}.JPEG" for form in data], resize=20, crop=16)
    assert torch.equal(batch, decode_batch(list(data.values()), resize=20, crop=16))


def test_items_that_are_not_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    sources = [tmp_path, tmp_path / "pipe.jpg", "/dev/zero", tmp_path / "good.jpg" / "below"]
    (tmp_path / "good.jpg").write_bytes(encode(pixels(30, 40)))
    _, failures = decode_batch(sources, on_error="skip")
    assert [f.reason for f in failures] == ["io"] * 4


@pytest.mark.parametrize("layout", ["CHW", "HWC"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_layouts_and_modes(layout: str, mode: str) -> None:
    data = encode(pixels(30, 40))
    batch = decode_batch([data], resize=(20, 24), crop=None, mode=mode, layout=layout)
    image = batch[0].permute(1, 2, 0) if layout == "CHW" else batch[0]
    np.testing.assert_array_equal(image, reference(data, resize=(20, 24), mode=mode))


@pytest.mark.parametrize("form", ["GIF", "BMP", "TIFF", "PPM"])
def test_other_formats_go_through_pillow(form: str) -> None:
    data = encode(pixels(30, 40), form)
    batch = decode_batch([data, encode(pixels(30, 40))], resize=20, crop=16)
    np.testing.assert_array_equal(batch[0].permute(1, 2, 0), reference(data, resize=(20, 0), crop=(16, 16)))
    assert decode_batch([data], resize=None, crop=None).shape == (1, 3, 30, 40)


def test_the_first_good_image_determines_the_size() -> None:
    sources = [b"broken", encode(pixels(30, 40)), encode(pixels(31, 40)), encode(pixels(30, 40), "PNG")]
    batch, failures = decode_batch(sources, resize=None, crop=None, on_error="skip")
    assert batch.shape == (2, 3, 30, 40)
    assert [(f.index, f.reason) for f in failures] == [(0, "unsupported"), (2, "shape")]


def test_failures(tmp_path: Path) -> None:
    good = encode(pixels(40, 40))
    missing = str(tmp_path / "missing.jpg")
    sources = [good, missing, good[:300], b"", b"neither this nor that", encode(pixels(40, 40), "BMP")[:200], good]
    batch, failures = decode_batch(sources, resize=32, crop=32, on_error="skip", threads=2)
    assert len(batch) == 2
    assert torch.equal(batch[0], batch[1])
    assert [f.index for f in failures] == [1, 2, 3, 4, 5]
    assert [f.reason for f in failures] == ["io", "truncated", "truncated", "unsupported", "truncated"]
    assert missing in str(failures[0])
    assert isinstance(failures[0], DecodeFailure)
    with pytest.raises(DecodeError, match=r"image 1 .*missing\.jpg"):
        decode_batch(sources, resize=32, crop=32)


def test_all_failed_gives_an_empty_batch() -> None:
    batch, failures = decode_batch([b"", b"x"], resize=None, crop=None, on_error="skip")
    assert len(batch) == 0
    assert len(failures) == 2


def test_max_pixels_holds_for_every_format() -> None:
    for form in ("JPEG", "PNG", "WEBP", "BMP"):
        _, failures = decode_batch([encode(pixels(20, 20), form)], max_pixels=399, on_error="skip")
        assert [f.reason for f in failures] == ["too_large"], form
        assert decode_batch([encode(pixels(20, 20), form)], max_pixels=400).shape == (1, 3, 224, 224)


def test_truncated_keep() -> None:
    data = encode(pixels(64, 64))
    cut = data[: len(data) * 3 // 4]
    with pytest.raises(DecodeError, match="ends early"):
        decode_batch([cut], resize=None, crop=None)
    kept = decode_batch([cut], resize=None, crop=None, truncated="keep")
    whole = decode_batch([data], resize=None, crop=None)
    assert torch.equal(kept[..., :8, :], whole[..., :8, :])
    assert not torch.equal(kept, whole)


def test_damage_behind_the_crop_is_not_looked_at() -> None:
    """As the docstring says: the crop is right, and the whole image fails."""
    data = encode(pixels(400, 40), "PNG")
    damaged = bytearray(data)
    damaged[len(data) * 9 // 10] ^= 0xFF
    options: dict[str, Any] = {"resize": None, "crop": (40, 40)}
    assert torch.equal(decode_batch([bytes(damaged)], **options), decode_batch([data], **options))
    with pytest.raises(DecodeError):
        decode_batch([bytes(damaged)], resize=None, crop=None)


def test_orientation_can_be_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(pixels(30, 40), exif=exif)
    assert decode_batch([data], resize=None, crop=None).shape == (1, 3, 40, 30)
    plain = decode_batch([data], resize=None, crop=None, exif_orientation=False)
    np.testing.assert_array_equal(plain[0].permute(1, 2, 0), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize(
    "options",
    [
        {"resize": 0},
        {"resize": (3, 0)},
        {"resize": "256"},
        {"crop": -1},
        {"crop": (1, 2, 3)},
        {"interpolation": "cubic"},
        {"decode": "fast"},
        {"mode": "RGBA"},
        {"layout": "NCHW"},
        {"truncated": "skip"},
        {"on_error": "ignore"},
        {"threads": 0},
        {"sources": [3]},
        {"sources": [], "crop": None},
    ],
)
def test_invalid_arguments(options: dict[str, object]) -> None:
    arguments = {"sources": [encode(pixels(8, 8))]} | options
    with pytest.raises(ArgumentError):
        decode_batch(**arguments)


def test_no_sources_give_an_empty_batch() -> None:
    assert decode_batch([]).shape == (0, 3, 224, 224)


def test_a_missing_file_of_a_name_that_is_no_text(tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/no\xff.jpg")
    _, failures = decode_batch([name, encode(pixels(20, 20))], resize=10, on_error="skip")
    assert [failure.reason for failure in failures] == ["io"]
    assert "no\udcff.jpg" in failures[0].message
    with pytest.raises(DecodeError):
        decode_batch([name], resize=10)


def test_one_path_is_no_list() -> None:
    with pytest.raises(ArgumentError, match="expected a list of paths or bytes of files, found str"):
        decode_batch("photo.jpg")
    with pytest.raises(ArgumentError, match="threads"):
        decode_batch([b"x"], threads=1.5)  # type: ignore[call-overload]
