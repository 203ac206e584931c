"""Rows of files equal those of Pillow and torchvision, bit for bit."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as torchvision

from largeds_native import _C
from largeds_native.errors import DecodeError
from tests.builders.images import Pixels, encode, pixels
from tests.reference import needs_pillow_of_rows_first

FILTERS = ["nearest", "box", "bilinear", "bicubic", "lanczos"]


def reference(
    data: bytes,
    *,
    resize: tuple[int, int] = (0, 0),
    crop: tuple[int, int] = (0, 0),
    filter: str = "bilinear",
    mode: str = "RGB",
    draft: bool = False,
) -> Pixels:
    """Pixels (height, width, channels) by Pillow and torchvision."""
    image = Image.open(io.BytesIO(data))
    if draft:
        image.draft(None, resize[::-1])
    image = ImageOps.exif_transpose(image).convert(mode)
    if resize != (0, 0):
        needs_pillow_of_rows_first()
        size = list(resize) if resize[1] else resize[0]
        image = torchvision.resize(image, size, InterpolationMode(filter))
    if crop != (0, 0):
        image = torchvision.center_crop(image, list(crop))
    return np.asarray(image).reshape(image.height, image.width, len(mode))


def convert(
    data: bytes | Pixels,
    *,
    resize: tuple[int, int] = (0, 0),
    crop: tuple[int, int] = (0, 0),
    planar: bool = False,
    mode: str = "RGB",
    **options: Any,
) -> Pixels:
    """The same pixels by the core."""
    sizes = {"resize_h": resize[0], "resize_w": resize[1], "crop_h": crop[0], "crop_w": crop[1]}
    options |= {"planar": planar, "channels": len(mode)}
    if isinstance(data, bytes):
        _, width, height, _ = _C.image_info(data)
    else:
        height, width, _ = data.shape
    out_h, out_w = _C.RowSpec(**sizes).output_size(width, height)
    spec = _C.RowSpec(**sizes, out_h=out_h, out_w=out_w, **options)
    out = np.full((1, spec.row_bytes), 171, np.uint8)
    if isinstance(data, bytes):
        [(status, message, *source)] = _C.decode_to_rows([data], out, spec, 1)
        assert (status, message) == ("ok", "")
        assert source == [width, height]
    else:
        packer = _C.Packer(spec, 1)
        packer.start((data,), out=out)
        assert packer.result()[3] == []
    if planar:
        return out.reshape(len(mode), out_h, out_w).transpose(1, 2, 0)
    return out.reshape(out_h, out_w, len(mode))


sizes = st.integers(1, 90)


@settings(max_examples=60, deadline=None)
@given(
    height=sizes,
    width=sizes,
    resize=st.one_of(st.just((0, 0)), st.tuples(st.integers(1, 50), st.just(0)), st.tuples(sizes, sizes)),
    crop=st.one_of(st.just((0, 0)), st.tuples(st.integers(1, 60), st.integers(1, 60))),
    filter=st.sampled_from(FILTERS),
    mode=st.sampled_from(["RGB", "L"]),
    planar=st.booleans(),
    form=st.sampled_from(["JPEG", "PNG"]),
    orientation=st.integers(1, 8),
)
def test_row_equals_pillow_and_torchvision(
    height: int,
    width: int,
    resize: tuple[int, int],
    crop: tuple[int, int],
    filter: str,
    mode: str,
    planar: bool,
    form: str,
    orientation: int,
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(pixels(height, width), form, exif=exif)
    resized = reference(data, resize=resize, filter=filter, mode=mode)
    if crop[0] > resized.shape[0] or crop[1] > resized.shape[1]:  # torchvision pads with black
        with pytest.raises(DecodeError, match="does not fit"):
            convert(data, resize=resize, crop=crop)
        return
    expected = reference(data, resize=resize, crop=crop, filter=filter, mode=mode)
    found = convert(data, resize=resize, crop=crop, filter=filter, mode=mode, planar=planar)
    np.testing.assert_array_equal(found, expected)
    by_pillow = np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert(mode))
    by_pillow = by_pillow.reshape(*by_pillow.shape[:2], len(mode))
    found = convert(by_pillow, resize=resize, crop=crop, filter=filter, mode=mode, planar=planar)
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=20, deadline=None)
@given(height=st.integers(1, 200), width=st.integers(1, 200), size=st.tuples(st.integers(1, 60), st.integers(1, 60)))
def test_scaled_equals_pillows_draft(height: int, width: int, size: tuple[int, int]) -> None:
    data = encode(pixels(height, width), quality=90)
    found = convert(data, resize=size, scaled=True)
    np.testing.assert_array_equal(found, reference(data, resize=size, draft=True))


def test_scaled_keeps_the_geometry_of_the_whole_image() -> None:
    """The size of the shorter side is computed from the size in the file, not from that after DCT scaling."""
    data = encode(pixels(999, 1333), quality=90)
    assert convert(data, resize=(100, 0), scaled=True).shape == (100, int(100 * 1333 / 999), 3)


def test_a_crop_that_is_larger_than_the_image_fails() -> None:
    sources = [encode(pixels(40, 50)), encode(pixels(31, 50)), encode(pixels(90, 31))]
    spec = _C.RowSpec(resize_h=0, crop_h=32, crop_w=32, out_h=32, out_w=32)
    found = _C.decode_to_rows(sources, np.empty((3, spec.row_bytes), np.uint8), spec, 1)
    assert [status for status, *_ in found] == ["ok", "shape", "shape"]
    assert found[1][1] == (
        "a crop of 32 x 32 (height x width) does not fit into 31 x 50 (height x width), the image's size"
    )


def test_status_of_each_source(tmp_path: Any) -> None:
    good = encode(pixels(40, 50))
    (tmp_path / "good.jpg").write_bytes(good)
    (tmp_path / "text.jpg").write_text("not an image")
    spec = _C.RowSpec(resize_h=32, crop_h=32, crop_w=32, out_h=32, out_w=32)
    out = np.zeros((6, spec.row_bytes), np.uint8)
    sources = [
        str(tmp_path / "good.jpg"),
        good,
        str(tmp_path / "text.jpg"),
        str(tmp_path / "none.jpg"),
        b"",
        good[:200],
    ]
    results = _C.decode_to_rows(sources, out, spec, 2)
    assert [r[0] for r in results] == ["ok", "ok", "unsupported", "io", "truncated", "truncated"]
    assert results[0][2:] == (50, 40)
    assert str(tmp_path / "none.jpg") in results[3][1]
    np.testing.assert_array_equal(out[0], out[1])


def test_an_image_of_another_size_is_reported() -> None:
    spec = _C.RowSpec(resize_h=0, crop_h=0, crop_w=0, out_h=32, out_w=32)
    out = np.zeros((1, spec.row_bytes), np.uint8)
    [(status, message, *_)] = _C.decode_to_rows([encode(pixels(31, 32))], out, spec, 1)
    assert status == "shape"
    assert "32 x 32" in message
    assert "31 x 32" in message


@pytest.mark.parametrize("options", [{"channels": 2}, {"resize_h": -1}, {"resize_h": 0, "resize_w": 5}, {"out_h": 0}])
def test_invalid_specs(options: dict[str, int]) -> None:
    from largeds_native.errors import ArgumentError

    spec = _C.RowSpec(**options)
    with pytest.raises(ArgumentError):
        _C.decode_to_rows([b""], np.zeros((1, max(spec.row_bytes, 0)), np.uint8), spec, 1)
    with pytest.raises(ArgumentError, match="interpolation: expected one of nearest"):
        _C.RowSpec(filter="cubic")
