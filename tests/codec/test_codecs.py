"""Every format, mode and orientation equals Pillow, bit for bit."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from largeds_native import _C
from largeds_native.errors import DecodeError
from tests.builders.images import (
    PNG_SAMPLES,
    Pixels,
    encode,
    exif_block,
    pixels,
    png,
    png_chunk,
    with_luma_sampling,
    with_segment,
)

SUBSAMPLINGS = ["4:4:4", "4:2:2", "4:2:0", "4:1:1"]


def pillow(data: bytes, mode: str = "RGB") -> Pixels:
    """Pixels (height, width, channels) decoded by Pillow."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow: alpha in a palette, damaged EXIF
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert(mode)
    return np.asarray(image).reshape(image.height, image.width, len(mode))


def assert_equals_pillow(data: bytes) -> None:
    for mode in ("RGB", "L"):
        expected = pillow(data, mode)
        found = _C.decode_image(data, channels=len(mode))
        np.testing.assert_array_equal(found, expected, err_msg=mode)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_jpeg_subsamplings(subsampling: str, progressive: bool) -> None:
    assert_equals_pillow(encode(pixels(61, 83), subsampling=subsampling, progressive=progressive, quality=90))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize(
    ("source", "factors"), [("4:2:2", (1, 2)), ("4:1:1", (1, 4)), ("4:2:0", (4, 1)), ("4:2:0", (1, 4))]
)
def test_jpeg_rare_subsamplings(source: str, factors: tuple[int, int], progressive: bool) -> None:
    data = encode(pixels(64, 96), subsampling=source, progressive=progressive)
    data = with_luma_sampling(data, *factors)
    assert_equals_pillow(data)
    whole = _C.decode_image(data)
    for x0, y0, x1, y1 in [(5, 3, 41, 60), (8, 8, 9, 9), (31, 17, 96, 64), (16, 0, 33, 7)]:
        np.testing.assert_array_equal(_C.decode_image(data, box=(x0, y0, x1, y1)), whole[y0:y1, x0:x1])


@pytest.mark.parametrize("options", [{}, {"restart_marker_blocks": 2}, {"optimize": True}, {"quality": 5}])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_modes(mode: str, options: dict[str, int]) -> None:
    assert_equals_pillow(encode(Image.fromarray(pixels(50, 37)).convert(mode), **options))


def test_jpeg_stored_as_rgb() -> None:
    assert_equals_pillow(encode(pixels(50, 37), keep_rgb=True))


def test_jpeg_inverted_ycck() -> None:
    """Four components with Adobe's transform 2: Pillow writes none, so a CMYK file's marker is changed."""
    data = encode(Image.fromarray(pixels(50, 37)).convert("CMYK"), quality=95)
    at = data.index(b"Adobe")
    assert data[at + 11] == 0
    assert_equals_pillow(data[: at + 11] + b"\2" + data[at + 12 :])


def test_jpeg_four_components_without_adobe_marker() -> None:
    data = encode(Image.fromarray(pixels(50, 37)).convert("CMYK"), quality=95)
    at = data.index(b"Adobe") - 4
    assert data[at : at + 2] == b"\xff\xee"
    assert_equals_pillow(data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :])


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(pixels(40, 57), form, exif=exif)
    assert_equals_pillow(data)
    turned = _C.decode_image(data)
    plain = _C.decode_image(data, exif_orientation=False)
    assert plain.shape == (40, 57, 3)
    assert turned.shape == ((57, 40, 3) if orientation >= 5 else (40, 57, 3))
    assert _C.image_info(data) == (form.lower(), turned.shape[1], turned.shape[0], orientation)


@pytest.mark.parametrize("interlace", [False, True])
@pytest.mark.parametrize(
    ("colour", "depth"),
    [(0, 1), (0, 2), (0, 4), (0, 8), (2, 8), (2, 16), (3, 1), (3, 2), (3, 4), (3, 8)]
    + [(colour, depth) for colour in (4, 6) for depth in (8, 16)],
)
def test_png_types(colour: int, depth: int, interlace: bool) -> None:
    random = np.random.default_rng(1)
    samples = random.integers(0, 1 << depth, (23, 19, PNG_SAMPLES[colour]))
    chunks = png_chunk(b"PLTE", random.bytes(3 << depth)) if colour == 3 else b""
    assert_equals_pillow(png(samples, depth, colour, interlace=interlace, before=chunks))
    if colour in (0, 2, 3):
        chunks += png_chunk(b"tRNS", {0: b"\0\1", 2: b"\0\1\0\2\0\3", 3: b"\0\x80"}[colour])
        assert_equals_pillow(png(samples, depth, colour, interlace=interlace, before=chunks))


def test_grey_of_sixteen_bits_is_left_to_python() -> None:
    with pytest.raises(DecodeError, match="PNG: 16 bits a pixel of grey"):
        _C.decode_image(png(np.zeros((2, 2, 1), np.int64), 16, 0))


def test_png_index_past_the_palette_is_black() -> None:
    samples = np.array([[[0], [1], [2], [255]]])
    data = png(samples, 8, 3, before=png_chunk(b"PLTE", bytes([10, 20, 30, 40, 50, 60])))
    assert_equals_pillow(data)
    assert _C.decode_image(data)[0, 2:].tolist() == [[0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    "options", [{"quality": 40}, {"quality": 90}, {"lossless": True}, {"lossless": True, "exact": True}]
)
@pytest.mark.parametrize("alpha", [False, True])
def test_webp(alpha: bool, options: dict[str, int]) -> None:
    assert_equals_pillow(encode(pixels(45, 62, 4 if alpha else 3), "WEBP", **options))


@pytest.mark.parametrize("alpha", [False, True])
def test_webp_animation_gives_its_first_frame(alpha: bool) -> None:
    frames = [Image.fromarray(pixels(45, 62, 4 if alpha else 3, seed)) for seed in range(3)]
    frames[0].paste((0,) * (4 if alpha else 3), (0, 0, 31, 40))
    assert_equals_pillow(encode(frames[0], "WEBP", save_all=True, append_images=frames[1:]))


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_a_box_equals_that_box_of_the_whole_image(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 120))
    form = data.draw(st.sampled_from(["JPEG", "JPEG", "JPEG", "PNG", "WEBP"]))
    exif = Image.Exif()
    exif[0x0112] = data.draw(st.integers(1, 8))
    options = {}
    if form == "JPEG":
        options = {
            "subsampling": data.draw(st.sampled_from(SUBSAMPLINGS)),
            "progressive": data.draw(st.booleans()),
            "quality": data.draw(st.sampled_from([30, 92])),
            "restart_marker_blocks": data.draw(st.sampled_from([0, 3])),
        }
    mode = data.draw(st.sampled_from(["RGB", "RGB", "L", "CMYK"] if form == "JPEG" else ["RGB"]))
    encoded = encode(Image.fromarray(pixels(height, width)).convert(mode), form, exif=exif, **options)
    draft = data.draw(st.sampled_from([None, (9, 9), (20, 30), (40, 40)]))
    whole = _C.decode_image(encoded, draft=draft)
    if draft is None:
        np.testing.assert_array_equal(whole, pillow(encoded))
    x0, x1 = sorted(data.draw(st.tuples(*[st.integers(0, whole.shape[1])] * 2).filter(lambda p: p[0] != p[1])))
    y0, y1 = sorted(data.draw(st.tuples(*[st.integers(0, whole.shape[0])] * 2).filter(lambda p: p[0] != p[1])))
    part = _C.decode_image(encoded, box=(x0, y0, x1, y1), draft=draft)
    np.testing.assert_array_equal(part, whole[y0:y1, x0:x1])


@settings(max_examples=30, deadline=None)
@given(
    size=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    least=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    subsampling=st.sampled_from(SUBSAMPLINGS),
)
def test_draft_equals_pillows(size: tuple[int, int], least: tuple[int, int], subsampling: str) -> None:
    data = encode(pixels(size[1], size[0]), subsampling=subsampling, quality=90)
    image = Image.open(io.BytesIO(data))
    image.draft(None, least)
    np.testing.assert_array_equal(_C.decode_image(data, draft=least), np.asarray(image))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["B", "H", "I", "b", "h", "i"])
@pytest.mark.parametrize("value", [0, 3, 6, 9, 77])
def test_exif_types(order: str, kind: str, value: int) -> None:
    data = with_segment(encode(pixels(9, 14)), 0xE1, b"Exif\0\0" + exif_block(value, order, kind))
    assert_equals_pillow(data)


@pytest.mark.parametrize(
    "text", ['tiff:Orientation="6"', "<tiff:Orientation>8</tiff:Orientation>", "tiff:Orientation=6"]
)
def test_xmp_orientation(text: str) -> None:
    packet = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta " + text.encode() + b"/>"
    assert_equals_pillow(with_segment(encode(pixels(9, 14)), 0xE1, packet))


def test_formats_are_recognised_by_their_first_bytes() -> None:
    for form in ("JPEG", "PNG", "WEBP"):
        assert _C.image_info(encode(pixels(4, 5), form)) == (form.lower(), 5, 4, 1)


def test_versions() -> None:
    assert set(_C.codec_versions()) == {"libjpeg-turbo", "libpng", "libwebp"}
