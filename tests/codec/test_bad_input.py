"""Damaged and hostile files: each is a failed image with its reason, and does not affect other images."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps

from largeds_native import _C, decode_batch
from largeds_native.errors import DecodeError
from tests.attacks import images as attacks
from tests.attacks.images import GOOD, SIDE
from tests.builders.images import Pixels, encode, exif_block, pixels, png, png_chunk, with_segment
from tests.builders.memory import peak_of, status_bytes
from tests.codec.test_codecs import assert_equals_pillow

FAILURES = {"corrupt", "truncated", "too_large", "unsupported", "shape"}


def statuses(files: list[bytes], **options: object) -> tuple[list[str], Pixels]:
    """The status of each file, and the rows, decoded by one thread with one decoder."""
    spec = _C.RowSpec(resize_h=0, crop_h=0, crop_w=0, out_h=SIDE, out_w=SIDE, planar=False, **options)
    out = np.zeros((len(files), spec.row_bytes), np.uint8)
    return [result[0] for result in _C.decode_to_rows(files, out, spec, 1)], out


@pytest.mark.parametrize("name", GOOD)
def test_cut_at_every_length(name: str) -> None:
    data = GOOD[name]
    found, _ = statuses([data[:length] for length in range(len(data))])
    assert set(found) <= {"truncated", "corrupt", "unsupported"}
    assert set(found[40:]) == {"truncated"}
    assert statuses([data])[0] == ["ok"]


@pytest.fixture
def load_truncated() -> Iterator[None]:
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    yield
    ImageFile.LOAD_TRUNCATED_IMAGES = False


@pytest.mark.usefixtures("load_truncated")
@pytest.mark.parametrize("name", ["jpeg", "restarts", "gray", "progressive"])
def test_kept_pixels_are_pillows(name: str) -> None:
    data = GOOD[name]
    first_scan = data.index(b"\xff\xda") + 16
    for length in range(first_scan, len(data), 7):
        cut = data[:length]
        kept = _C.decode_image(cut, keep_truncated=True)
        expected = np.asarray(Image.open(io.BytesIO(cut)).convert("RGB"))
        if name != "progressive":
            np.testing.assert_array_equal(kept, expected, err_msg=f"{length} bytes")
        elif expected.any():  # Pillow gives nothing when the header of a later scan is cut
            # what is missing is smoothed over, by each version of libjpeg-turbo a little differently
            assert np.abs(kept.astype(int) - expected).max() < 64, f"{length} bytes"
        part = _C.decode_image(cut, keep_truncated=True, box=(9, 7, 20, 22))
        np.testing.assert_array_equal(part, kept[7:22, 9:20], err_msg=f"{length} bytes")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_flipped_bits_never_crash_and_leave_nothing_behind(data: st.DataObject) -> None:
    files = []
    for _ in range(4):
        damaged = bytearray(GOOD[data.draw(st.sampled_from(sorted(GOOD)))])
        for at in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=6)):
            damaged[at] ^= 1 << data.draw(st.integers(0, 7))
        files.append(bytes(damaged))
    keep = data.draw(st.booleans())
    mixed = [file for damaged in files for file in (damaged, GOOD["jpeg"])]
    found, rows = statuses(mixed, keep_truncated=keep, max_pixels=100_000)
    assert set(found[::2]) <= FAILURES | {"ok"}
    assert set(found[1::2]) == {"ok"}
    np.testing.assert_array_equal(rows[1::2], np.broadcast_to(statuses([GOOD["jpeg"]])[1], (4, rows.shape[1])))


@pytest.mark.parametrize("magic", attacks.MAGIC_NUMBERS)
def test_garbage_after_a_magic_number(magic: bytes) -> None:
    found, _ = statuses(attacks.garbage_after_magic(magic))
    assert set(found) <= FAILURES


def test_headers_with_huge_sizes() -> None:
    files = attacks.huge_headers()
    for file in files:
        with pytest.raises(DecodeError, match=r"more than max_pixels|corrupt|rules"):
            _C.decode_image(file)
    with pytest.raises(DecodeError, match="60000 x 60000 pixels, more than max_pixels = 178956970"):
        _C.decode_image(files[0])


def test_sizes_of_zero() -> None:
    found, _ = statuses(attacks.empty_sizes())
    assert set(found) <= {"corrupt", "truncated"}


def test_decompression_bomb() -> None:
    """Decoding stops at the header."""
    assert statuses([attacks.decompression_bomb()])[0] == ["too_large"]
    assert statuses([GOOD["jpeg"], GOOD["png"]], max_pixels=SIDE * SIDE - 1)[0] == ["too_large"] * 2


@pytest.mark.parametrize("name", ["zTXt", "iTXt", "iCCP", "exif", "xmp"])
def test_texts_that_inflate_without_end(name: str) -> None:
    bomb = attacks.text_bombs()[name]
    assert peak_of(lambda: statuses([bomb])) < 32 << 20
    found, rows = statuses([bomb])
    assert found == ["ok"]
    np.testing.assert_array_equal(rows[0], pixels(SIDE, SIDE).ravel())


def test_files_without_end(tmp_path: Path) -> None:
    """Sparse ones, which cost nothing to make; and one that is no image is not read to its end."""
    endless, large = tmp_path / "endless.jpg", tmp_path / "large.jpg"
    endless.write_bytes(GOOD["jpeg"])
    os.truncate(endless, 200 << 30)
    large.touch()
    os.truncate(large, 900 << 20)
    spec = _C.RowSpec(resize_h=0, crop_h=0, crop_w=0, out_h=SIDE, out_w=SIDE, planar=False)
    items = [str(endless), (str(endless), 5, 200 << 29), str(large), (str(large), 7, 800 << 20)]
    found: list[tuple[str, str]] = []

    def decode() -> None:
        out = np.zeros((len(items), spec.row_bytes), np.uint8)
        found.extend((status, message) for status, message, _, _ in _C.decode_to_rows(items, out, spec, 1))

    assert peak_of(decode) < 32 << 20
    assert [status for status, _ in found] == ["too_large", "too_large", "unsupported", "unsupported"]
    assert f"{endless}': expected an image of at most 1073741824 bytes, found {200 << 30}" in found[0][1]


LARGE = 5000  # more than 64 MiB of pixels


@pytest.mark.parametrize("kind", ["webp", "interlaced", "turned", "file", "part"])
def test_memory_for_a_large_image_goes_back(tmp_path: Path, kind: str) -> None:
    """A worker keeps its buffers from image to image, but not those of one that is far larger than the others."""
    item: Any = b""
    if kind in ("file", "part"):
        path = tmp_path / "large.jpg"
        path.write_bytes(GOOD["jpeg"])
        os.truncate(path, 100 << 20)
        item = str(path) if kind == "file" else (str(path), 0, 100 << 20)
    elif kind == "webp":
        item = encode(np.zeros((LARGE, LARGE, 3), np.uint8), "WEBP", lossless=True, quality=0, method=0)
    elif kind == "interlaced":
        item = png(np.zeros((LARGE, LARGE, 3), np.uint8), 8, 2, interlace=True)
    else:
        item = with_segment(encode(np.zeros((LARGE, LARGE), np.uint8)), 0xE1, b"Exif\0\0" + exif_block(6))
    packer = _C.Packer(_C.RowSpec(resize_h=SIDE, resize_w=SIDE, crop_h=0, crop_w=0, out_h=SIDE, out_w=SIDE), 1)

    def pack(item: Any) -> None:
        packer.start((item,))
        widths, _, _, failures, _ = packer.result()
        assert failures == []
        assert widths[0] > 0

    pack(GOOD["jpeg"])
    before = status_bytes("VmRSS")
    pack(item)
    pack(GOOD["png"] if kind != "part" else (str(path), 0, len(GOOD["jpeg"])))
    if kind == "file":
        small = tmp_path / "small.jpg"
        small.write_bytes(GOOD["jpeg"])
        pack(str(small))
    assert status_bytes("VmRSS") - before < 40 << 20


def test_tables_are_not_kept_from_the_previous_file() -> None:
    plain = GOOD["jpeg"]
    optimized = encode(pixels(SIDE, SIDE, seed=3), optimize=True)
    unquantised = attacks.without_segments(plain, 0xDB)
    without_codes = attacks.without_segments(plain, 0xC4)  # libjpeg-turbo has the standard's tables for these
    found, rows = statuses([optimized, unquantised, plain, optimized, without_codes])
    assert found == ["ok", "corrupt", "ok", "ok", "ok"]
    np.testing.assert_array_equal(rows[4], rows[2])


def test_bad_huffman_codes() -> None:
    found, _ = statuses(attacks.bad_huffman_codes())
    assert found == ["corrupt"] * 2


def test_a_scan_that_was_cut_and_closed_again() -> None:
    """Pillow silently fills it up with gray."""
    cut = attacks.cut_and_closed()
    assert statuses([cut])[0] == ["truncated"]
    expected = np.asarray(Image.open(io.BytesIO(cut)))
    np.testing.assert_array_equal(_C.decode_image(cut, keep_truncated=True), expected)


@pytest.mark.parametrize("data", attacks.ODDITIES)
def test_harmless_oddities_open_as_in_pillow(data: bytes) -> None:
    assert_equals_pillow(data)


def test_a_flood_of_scans_stops() -> None:
    assert statuses([attacks.flood_of_scans()])[0] == ["corrupt"]


def pillow_orientation(data: bytes) -> int | None:
    """The orientation that exif_transpose uses; None if Pillow raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            orientation = Image.open(io.BytesIO(data)).getexif().get(0x0112, 1)
        except Exception:
            return None
    return orientation if orientation in range(1, 9) else 1


entries = st.tuples(
    st.sampled_from([0x0112, 0x0112, 0x010F, 0x0100]),
    st.sampled_from([0, 1, 2, 3, 4, 5, 6, 8, 9, 13, 16, 99]),
    st.sampled_from([0, 1, 1, 1, 2, 3, 70000, 2**31]),
    st.sampled_from([0, 1, 3, 6, 8, 9, 6 << 16, 26, 40, 2**32 - 1]),
)


@settings(max_examples=200, deadline=None)
@given(
    order=st.sampled_from("<>"),
    directory=st.sampled_from([8, 8, 8, 0, 9, 60, 2**32 - 1]),
    entries=st.lists(entries, max_size=4),
    extra=st.integers(-1, 3),
    tail=st.sampled_from([b"", bytes(4), bytes(range(1, 9)) * 4]),
    twice=st.booleans(),
)
@example(order="<", directory=8, entries=[(0x0112, 3, 1, 6)], extra=0, tail=b"", twice=False)
def test_an_exif_block_full_of_lies(
    order: str, directory: int, entries: list[tuple[int, int, int, int]], extra: int, tail: bytes, twice: bool
) -> None:
    block = attacks.exif_directory(order, directory, entries, extra, tail)
    data = with_segment(GOOD["gray"], 0xE1, b"Exif\0\0" + block)
    if twice:
        data = with_segment(data, 0xE1, b"Exif\0\0" + block)
    expected = pillow_orientation(data)
    if expected is not None:
        assert _C.image_info(data)[3] == expected
    assert _C.image_info(data)[3] in range(1, 9)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=60))
def test_a_random_exif_block(block: bytes) -> None:
    for data in (
        with_segment(GOOD["gray"], 0xE1, b"Exif\0\0" + block),
        png(pixels(4, 4), 8, 2, before=png_chunk(b"eXIf", block)),
    ):
        expected = pillow_orientation(data)
        assert _C.image_info(data)[3] == (1 if expected is None else expected)


def test_exif_in_a_raw_profile() -> None:
    """ImageMagick stores EXIF like this in a PNG."""
    for chunk in attacks.raw_profiles(6):
        data = png(pixels(4, 9), 8, 2, before=chunk)
        assert _C.image_info(data)[3] == 6
        expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        np.testing.assert_array_equal(_C.decode_image(data), np.asarray(expected))


def with_its_end_replaced(data: bytes, end: bytes) -> bytes:
    return data[: -2 if data[:2] == b"\xff\xd8" else -12] + end


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("end", [b"", b"\0" * 12, b"\0" * 500], ids=["nothing", "zeros", "many zeros"])
def test_a_whole_image_without_its_end(form: str, end: bytes) -> None:
    """As disks that lost power leave it: a failure that is named, and the whole picture when it is asked for."""
    image = pixels(40, 50)
    whole = encode(image, form)
    cut = with_its_end_replaced(whole, end)
    with pytest.raises(DecodeError, match="ends early"):
        decode_batch([cut], resize=None)
    assert torch.equal(decode_batch([cut], resize=None, truncated="keep"), decode_batch([whole], resize=None))


def test_a_png_without_all_its_pixels_is_not_kept() -> None:
    whole = encode(pixels(40, 50), "PNG")
    for size in (len(whole) - 20, len(whole) // 2, 60):
        with pytest.raises(DecodeError, match="PNG"):
            decode_batch([whole[:size]], resize=None, truncated="keep")
