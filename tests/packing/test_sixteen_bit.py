"""Grey images of more than 8 bits a pixel fail until the user says how they become 8."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import largeds_native as lds
from largeds_native.errors import ArgumentError, DecodeError, PackError
from tests.builders.images import png

EXACT: dict[str, Any] = {"resize": None, "crop": None, "progress": False}
VALUES = np.array([[0, 1, 255, 256, 4095, 65535]] * 4, np.uint16)
SCALED = np.array([0, 0, 0, 1, 15, 255], np.uint8)
CLIPPED = np.array([0, 1, 255, 255, 255, 255], np.uint8)
FLOATS = np.array([[0.0, 0.25, 0.5, 1.0]] * 4, np.float32)


def file_of(values: Any, form: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, form)
    return stream.getvalue()


FILES = {"png": file_of(VALUES, "PNG"), "tiff": file_of(VALUES, "TIFF")}


def out_beside(images: Path, number: int = 1) -> Path:
    return images.with_name(f"{images.name}-out{number}")


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize(("how", "expected"), [("scale", SCALED), ("clip", CLIPPED)])
def test_what_was_asked_for(tmp_path: Path, kind: str, mode: Any, how: Any, expected: Any) -> None:
    (tmp_path / f"a.{kind}").write_bytes(FILES[kind])
    store = lds.pack(tmp_path, out_beside(tmp_path), sixteen_bit=how, mode=mode, **EXACT)
    assert (np.asarray(store.images[0]) == expected).all()
    batch = lds.decode_batch([FILES[kind]], resize=None, crop=None, mode=mode, sixteen_bit=how)
    assert torch.equal(batch[0], torch.from_numpy(np.array(store.images[0])))
    assert lds.packing.verify_sources(store).ok
    if how == "clip":  # as Pillow's convert
        with Image.open(io.BytesIO(FILES[kind])) as image:
            np.testing.assert_array_equal(np.asarray(image.convert("L")), store.images[0][0])


@pytest.mark.parametrize("kind", FILES)
def test_not_asked_for_it_is_a_failure(tmp_path: Path, kind: str) -> None:
    (tmp_path / f"a.{kind}").write_bytes(FILES[kind])
    bits = "(16|32) bits a pixel"  # older versions of Pillow open a PNG of 16 bits as one of 32
    with pytest.raises(PackError, match=rf"1 sixteen_bit; the first: a\.\w+: {bits}, .*sixteen_bit='scale'"):
        lds.pack(tmp_path, out_beside(tmp_path), resize=4, crop=4, progress=False)
    with pytest.raises(PackError, match=r"none of the first 1 images can be decoded; .*sixteen_bit='scale'"):
        lds.pack(tmp_path, out_beside(tmp_path, 2), **EXACT)
    with pytest.raises(DecodeError, match="sixteen_bit='scale'"):
        lds.decode_batch([FILES[kind]], resize=4, crop=4)
    _, failures = lds.decode_batch([FILES[kind]], resize=4, crop=4, on_error="skip")
    assert [failure.reason for failure in failures] == ["sixteen_bit"]


def test_floats(tmp_path: Path) -> None:
    data = file_of(FLOATS, "TIFF")
    batch = lds.decode_batch([data], resize=None, crop=None, mode="L", sixteen_bit="scale")
    assert batch[0, 0, 0].tolist() == [0, 64, 128, 255]
    with pytest.raises(DecodeError, match="floats a pixel"):
        lds.decode_batch([data], resize=4, crop=4)
    for bad in (FLOATS * 300, FLOATS - 1, FLOATS * np.nan):
        with pytest.raises(DecodeError, match="expected values from 0 to 1, found"):
            lds.decode_batch([file_of(bad, "TIFF")], resize=4, crop=4, sixteen_bit="scale")


def test_colours_of_sixteen_bits_are_their_high_bytes() -> None:
    samples = np.random.default_rng(0).integers(0, 1 << 16, (5, 7, 3))
    batch = lds.decode_batch([png(samples, 16, 2)], resize=None, crop=None)
    np.testing.assert_array_equal(batch[0].permute(1, 2, 0).numpy(), samples >> 8)


class Wide:
    """A dataset of 16-bit images."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Any:
        return Image.open(io.BytesIO(FILES["png"])) if self.kind == "PIL" else VALUES


@pytest.mark.parametrize("kind", ["PIL", "array"])
def test_datasets(tmp_path: Path, kind: str) -> None:
    with pytest.raises(PackError, match="1 sixteen_bit"):
        lds.pack(Wide(kind), tmp_path / "fails", **EXACT)
    store = lds.pack(Wide(kind), tmp_path / "out", sixteen_bit="scale", **EXACT)
    assert (np.asarray(store.images[0]) == SCALED).all()


def test_the_option_is_checked_and_kept_where_it_is_given(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="sixteen_bit: expected one of scale, clip, found 'round'"):
        lds.decode_batch([b""], sixteen_bit="round")  # type: ignore[call-overload]
    (tmp_path / "a.png").write_bytes(FILES["png"])
    store = lds.pack(tmp_path, out_beside(tmp_path), sixteen_bit="clip", **EXACT)
    assert store.metadata.options["sixteen_bit"] == "clip"


FRAME = b"\xff\xc1\x00\x11\x0c\x00\x10\x00\x10\x03\x01\x11\x00\x02\x11\x00\x03\x11\x00"
DEEP_JPEG = b"\xff\xd8" + FRAME + b"\xff\xda\x00\x0c\x03\x01\x00\x02\x00\x03\x00\x00\x3f\x00" + bytes(50)
HEAD = {
    "HEIC.*pillow-heif": b"\0\0\0\x18ftypheic" + bytes(50),
    "JPEG XL.*pillow-jxl-plugin": b"\xff\x0a" + bytes(50),
    "a JPEG of 12 bits a channel, expected 8": DEEP_JPEG,
    "no image of a format": b"hello" * 20,
}


@pytest.mark.parametrize("words", HEAD)
def test_formats_that_nobody_reads_are_named(tmp_path: Path, words: str) -> None:
    (tmp_path / "a.jpg").write_bytes(HEAD[words])
    with pytest.raises(PackError, match=f"1 unsupported; the first: .*{words}"):
        lds.pack(tmp_path, out_beside(tmp_path), resize=4, crop=4, progress=False)
    with pytest.raises(DecodeError, match=words):
        lds.decode_batch([HEAD[words]], resize=4, crop=4)
