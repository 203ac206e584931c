"""How the core keeps an image as a JPEG file, with Pillow as the reference."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from largeds_native import _C
from tests.attacks import images as attacks
from tests.builders.images import (
    encode,
    exif_block,
    jpeg_segment,
    pixels,
    png,
    png_chunk,
    scan_ends,
    with_luma_sampling,
    with_segment,
)
from tests.builders.jpeg_rows import convert, decoded, encoded, one, segments, shown, shrunk

SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0", "4:1:1")
SOF0, SOF1, DRI, APP1, COM = 0xC0, 0xC1, 0xDD, 0xE1, 0xFE


def assert_baseline_with_restarts(file: bytes) -> None:
    """One sequential scan with a restart marker for each row of MCUs."""
    found = dict(segments(file))
    frame = found.get(SOF0, found.get(SOF1))
    assert frame is not None
    assert len(scan_ends(file)) == 1
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    across = max(frame[7::3][i] >> 4 for i in range(frame[5])) if frame[5] > 1 else 1
    columns = -(-width // (8 * across))
    assert int.from_bytes(found[DRI], "big") == columns
    assert file.endswith(b"\xff\xd9")
    assert height > 0


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"quality": 30},
        {"optimize": True},
        {"restart_marker_blocks": 3},
        {"restart_marker_rows": 1},
        *({"subsampling": name} for name in SUBSAMPLINGS),
        {"keep_rgb": True},
        {"comment": b"small"},
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_plain_files_stay_as_they_are(channels: int, options: dict[str, Any]) -> None:
    file = encode(pixels(45, 70, channels), **options)
    row = one(file)
    assert (row.file, row.kept, row.size, row.orientation, row.psnr) == (file, "verbatim", (45, 70), 1, -1)


@settings(max_examples=150, deadline=None)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    channels=st.sampled_from([1, 3]),
    subsampling=st.sampled_from(SUBSAMPLINGS),
    quality=st.sampled_from([1, 20, 75, 95, 100]),
    rgb=st.booleans(),
    seed=st.integers(0, 5),
)
def test_progressive_files_become_baseline_with_the_same_pixels(
    height: int, width: int, channels: int, subsampling: str, quality: int, rgb: bool, seed: int
) -> None:
    options: dict[str, Any] = {"keep_rgb": True} if rgb and channels == 3 else {"subsampling": subsampling}
    file = encode(pixels(height, width, channels, seed), progressive=True, quality=quality, **options)
    row = one(file)
    assert (row.kept, row.size, row.orientation) == ("transcoded", (height, width), 1)
    assert_baseline_with_restarts(row.file)
    np.testing.assert_array_equal(decoded(row.file), decoded(file))
    np.testing.assert_array_equal(_C.decode_image(row.file), decoded(file))
    assert one(row.file).kept == "verbatim"
    assert one(row.file, restarts=True).kept == "verbatim"


@pytest.mark.parametrize(("source", "factors"), [("4:2:2", (1, 2)), ("4:1:1", (1, 4)), ("4:2:0", (4, 1))])
def test_rare_subsamplings_are_copied_too(source: str, factors: tuple[int, int]) -> None:
    for progressive in (False, True):
        file = with_luma_sampling(encode(pixels(64, 96), subsampling=source, progressive=progressive), *factors)
        row = one(file)
        assert row.kept == ("transcoded" if progressive else "verbatim")
        np.testing.assert_array_equal(decoded(row.file), decoded(file))


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    channels=st.sampled_from([1, 3]),
    subsampling=st.sampled_from(SUBSAMPLINGS),
    interval=st.sampled_from([0, 1, 3]),
)
def test_with_restarts_every_row_has_restart_markers(
    height: int, width: int, channels: int, subsampling: str, interval: int
) -> None:
    file = encode(pixels(height, width, channels), subsampling=subsampling, restart_marker_blocks=interval)
    row = one(file, restarts=True)
    np.testing.assert_array_equal(decoded(row.file), decoded(file))
    if row.kept == "transcoded":
        assert_baseline_with_restarts(row.file)
    else:
        assert (row.kept, row.file) == ("verbatim", file)
    assert one(file).kept == "verbatim"


def test_markers_within_a_row_are_not_enough() -> None:
    """The loader passes whole rows of MCUs."""
    kept = {n: one(encode(pixels(40, 64, 1), restart_marker_blocks=n), restarts=True).kept for n in (4, 8, 16)}
    assert kept == {4: "transcoded", 8: "verbatim", 16: "transcoded"}


def segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(data) + 2).to_bytes(2, "big") + data


def test_a_code_of_ones_is_no_code() -> None:
    """libjpeg refuses such a table, so that a file with one must not be kept as it is."""
    head = segment(0xDB, b"\0" + bytes([16] * 64)) + segment(0xC0, bytes([8, 0, 64, 0, 64, 1, 1, 0x11, 0]))
    for counts, reason in ((bytes([1, 1] + [0] * 14), None), (bytes([2] + [0] * 15), "corrupt")):
        tables = segment(0xC4, b"\x00" + counts + b"\0\1") + segment(0xC4, b"\x10" + counts + b"\0\1")
        file = b"\xff\xd8" + head + tables + segment(0xDA, bytes([1, 1, 0, 0, 63, 0])) + bytes(16) + b"\xff\xd9"
        [row] = convert(file)
        assert (row.failure and row.failure[0]) == reason


def test_progressive_files_that_lack_coefficients_are_encoded() -> None:
    file = encode(pixels(64, 80), progressive=True, quality=90)
    for end in scan_ends(file)[:-1]:
        short = file[:end] + b"\xff\xd9"
        row = one(short)
        if row.kept == "transcoded":  # libjpeg does not smooth over the coefficients that are missing
            np.testing.assert_array_equal(decoded(row.file), decoded(short))
        else:
            assert row.kept == "encoded"
            # versions of libjpeg smooth differently: Pillow has its own
            np.testing.assert_array_equal(decoded(row.file), decoded(encoded(_C.decode_image(short))))
    assert one(file[: scan_ends(file)[0]] + b"\xff\xd9").kept == "encoded"


def test_what_follows_the_end_is_cut_off() -> None:
    file = encode(pixels(30, 40))
    for more in (b"\0", b"more after the end" * 50, file, b"\xff"):
        row = one(file + more)
        assert (row.file, row.kept) == (file, "verbatim")


def test_large_metadata_are_left_out_and_small_ones_kept() -> None:
    file = encode(pixels(200, 300), quality=95)
    small = with_segment(file, COM, b"x" * 900)
    assert one(small).file == small
    for more in (
        with_segment(file, COM, b"x" * (len(file) // 7)),
        with_segment(with_segment(file, 0xE2, b"ICC_PROFILE\0" + b"x" * 9000), APP1, b"x" * 9000),
    ):
        row = one(more)
        assert row.kept == "transcoded"
        assert {marker for marker, _ in segments(row.file)} <= {0xE0, 0xDB, SOF0, 0xC4, DRI, 0xDA}
        np.testing.assert_array_equal(decoded(row.file), decoded(file))


def test_the_first_of_several_pictures_loses_their_list() -> None:
    file = encode(pixels(30, 40))
    row = one(with_segment(file, 0xE2, b"MPF\0" + b"x" * 80) + file)
    assert row.kept == "transcoded"
    np.testing.assert_array_equal(decoded(row.file), decoded(file))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations(orientation: int) -> None:
    plain = encode(pixels(60, 91), quality=90)
    for progressive in (False, True):
        file = encode(pixels(60, 91), quality=90, progressive=progressive, exif=b"Exif\0\0" + exif_block(orientation))
        row = one(file)
        assert row.kept == ("transcoded" if progressive else "verbatim")
        assert row.orientation == orientation
        assert row.size == ((91, 60) if orientation >= 5 else (60, 91))
        np.testing.assert_array_equal(decoded(row.file), decoded(plain))
        np.testing.assert_array_equal(shown(row.file), shown(file))
        if progressive and orientation != 1:
            [exif] = [data for marker, data in segments(row.file) if marker == APP1]
            assert len(exif) == 32
        row = one(file, exif_orientation=False)
        assert (row.orientation, row.size) == (1, (60, 91))
        # what is encoded is upright
        row = one(file, resize=32, quality=90)
        assert (row.kept, row.orientation) == ("shrunk", 1)
        expected = encoded(shrunk(shown(file), 32), 90)
        np.testing.assert_array_equal(decoded(row.file), decoded(expected))
        assert row.size == decoded(expected).shape[:2]


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(2, 90),
    width=st.integers(2, 90),
    side=st.integers(1, 80),
    channels=st.sampled_from([1, 3]),
    form=st.sampled_from(["JPEG", "PNG", "WEBP"]),
    quality=st.sampled_from([1, 50, 90, 100]),
    bicubic=st.booleans(),
)
def test_longer_images_are_shrunk_and_others_never_enlarged(
    height: int, width: int, side: int, channels: int, form: str, quality: int, bicubic: bool
) -> None:
    file = encode(pixels(height, width, channels), form, **({"lossless": True} if form == "WEBP" else {}))
    row = one(file, resize=side, quality=quality, interpolation="bicubic" if bicubic else "bilinear")
    source = decoded(file)
    if min(height, width) <= side:
        assert row.kept == ("verbatim" if form == "JPEG" else "encoded")
        assert row.size == (height, width)
    else:
        assert row.kept == "shrunk"
    if row.kept != "verbatim":
        resample = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
        expected = encoded(shrunk(source, side, resample), quality)
        np.testing.assert_array_equal(decoded(row.file), decoded(expected))
        assert row.size == decoded(row.file).shape[:2]
        assert_baseline_with_restarts(row.file)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "1", "RGB"])
def test_other_formats_are_encoded_as_pillow_converts_them(mode: str) -> None:
    rgba = np.concatenate([pixels(40, 50), pixels(40, 50, 1, seed=3)], axis=2)
    file = encode(Image.fromarray(rgba).convert(mode), "PNG")
    row = one(file)
    assert row.kept == "encoded"
    expected = _C.decode_image(file)  # equals Pillow: tests/codec/test_codecs.py
    np.testing.assert_array_equal(decoded(row.file), decoded(encoded(expected)))


def test_cmyk_files_are_encoded() -> None:
    file = encode(Image.fromarray(pixels(40, 50)).convert("CMYK"))
    row = one(file)
    assert row.kept == "encoded"
    np.testing.assert_array_equal(decoded(row.file), decoded(encoded(decoded(file))))


def test_grey_stays_grey() -> None:
    for file in (encode(pixels(60, 50, 1)), encode(pixels(60, 50, 1), "PNG"), encode(pixels(60, 50, 1), "WEBP")):
        row = one(file, resize=30)
        assert Image.open(io.BytesIO(row.file)).mode == "L" or file[:4] == b"RIFF"  # WebP has no grey
    row = one(encode(pixels(60, 50)), resize=30, mode="L")
    assert Image.open(io.BytesIO(row.file)).mode == "L"
    assert one(encode(pixels(60, 50)), mode="L").kept == "verbatim"


def test_arrays_of_pixels() -> None:
    image = pixels(40, 60)
    rows = convert(image, np.ascontiguousarray(image.transpose(2, 0, 1)).transpose(1, 2, 0), quality=80)
    for row in rows:
        assert row.kept == "encoded"
        assert row.file == rows[0].file
        np.testing.assert_array_equal(decoded(row.file), decoded(encoded(image, 80)))
    assert one(image, resize=20).kept == "shrunk"


def test_psnr_is_that_of_every_16th_sample() -> None:
    images = [pixels(40, 60, seed=i) for i in range(33)]
    for i, (image, row) in enumerate(zip(images, convert(*images, quality=70), strict=True)):
        if i % 16:
            assert row.psnr == -1
            continue
        error = np.mean((decoded(row.file).astype(float) - image) ** 2)
        assert abs(row.psnr - 1000 * 10 * np.log10(255**2 / error)) <= 1
    assert one(np.full((16, 16, 3), 128, np.uint8)).psnr == 100_000


def test_truncated_files_fail_or_are_encoded_as_far_as_they_go() -> None:
    for progressive in (False, True):
        file = encode(pixels(64, 80), progressive=progressive, quality=90)
        for cut in (len(file) - 2, len(file) - 1, len(file) * 2 // 3):
            [row] = convert(file[:cut])
            assert row.failure is not None
            assert row.failure[0] == "truncated"
            assert row.file == b""
        row = one(file[: len(file) * 2 // 3], truncated="keep")
        assert row.kept == "encoded"
    [row] = convert(attacks.cut_and_closed())
    assert row.failure is not None or row.kept == "verbatim"


def test_hostile_files() -> None:
    for file in attacks.huge_headers():
        [row] = convert(file)
        assert row.failure is not None
        assert row.failure[0] in ("too_large", "truncated", "corrupt"), row.failure
    [row] = convert(attacks.jpeg_of_size(65_535, 65_535))
    assert row.failure is not None
    for file in attacks.empty_sizes():
        [row] = convert(file)
        assert row.failure is not None
    [row] = convert(attacks.flood_of_scans(), max_pixels=2000)
    assert row.failure is not None
    [row] = convert(encode(pixels(50, 50)), max_pixels=2499)
    assert row.failure is not None
    assert row.failure[0] == "too_large"
    for progressive in (False, True):
        [row] = convert(encode(pixels(50, 50), progressive=progressive), max_pixels=2499)
        assert row.failure is not None
        assert "more than max_pixels = 2499" in row.failure[1]
    [row] = convert(np.zeros((1, 65_536, 3), np.uint8))
    assert row.failure is not None
    assert row.failure[0] == "too_large"


@pytest.mark.parametrize("marker", [0xC4, 0xDB])
def test_files_without_tables_are_not_kept(marker: int) -> None:
    [row] = convert(attacks.without_segments(attacks.GOOD["jpeg"], marker))
    if row.failure is None:  # libjpeg knows the Huffman tables of the standard
        assert row.kept in ("transcoded", "encoded")
        assert 0xC4 in dict(segments(row.file))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_files_are_refused_or_give_what_they_decode_to(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["jpeg", "progressive", "restarts", "gray"]))
    file = bytearray(attacks.GOOD[name])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(2, len(file) - 1))
        file[at] = data.draw(st.integers(0, 255))
    try:
        expected = _C.decode_image(bytes(file))
    except Exception:
        expected = None
    [row] = convert(bytes(file), restarts=data.draw(st.booleans()))
    if row.failure is not None:
        assert expected is None
        assert row.file == b""
    elif row.kept == "transcoded":
        assert expected is not None
        np.testing.assert_array_equal(_C.decode_image(row.file, exif_orientation=False), expected)
    elif row.kept == "verbatim":  # its Huffman data were not decoded
        assert bytes(file).startswith(row.file)


def test_damage_that_libjpeg_reads_as_zeros_is_not_copied() -> None:
    good = encode(pixels(200, 300), quality=90)
    start = good.index(b"\xff\xda") + 14
    bad = good[: start + 500] + b"\xff\x00" * 3 + good[start + 506 :]
    assert one(bad).kept == "verbatim"  # its Huffman data are not decoded
    [row] = convert(bad, restarts=True)
    assert row.failure is not None
    assert row.failure[0] == "corrupt"


def test_a_segment_of_any_length_ends_the_search() -> None:
    good = attacks.GOOD["jpeg"]
    for cut in range(len(good)):
        [row] = convert(good[:cut])
        assert row.failure is not None
    for data in (b"", b"\0", b"\0" * 3):
        for marker in (SOF0, 0xC4, 0xDB, DRI, 0xDA):
            convert(good[:2] + jpeg_segment(marker, data) + good[2:])


def test_png_with_more_than_8_bits_is_left_to_pillow() -> None:
    wide = png(np.full((8, 8, 1), 40_000, np.uint16), 16, 0, before=png_chunk(b"tEXt", b"a\0b"))
    [row] = convert(wide)
    assert row.failure is not None
    assert row.failure[0] == "unsupported"
