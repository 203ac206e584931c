"""Progressive JPEGs whose last scans are missing. libjpeg smooths them, and Pillow has its own libjpeg."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from largeds_native import _C
from tests.builders.images import encode, pixels, scan_ends
from tests.codec.test_codecs import SUBSAMPLINGS, assert_equals_pillow

LIBJPEG = tuple(map(int, re.findall(r"\d+", _C.codec_versions()["libjpeg-turbo"])[:3]))
SIZES = [(1, 1), (7, 9), (16, 16), (33, 15), (40, 90), (61, 83), (90, 130)]  # height, width
EDGES = "libjpeg-turbo smooths the edges of some blocks otherwise before version 3.0.1, Pillow's is newer"


def blocks_across(width: int, subsampling: str) -> set[int]:
    """Widths of the components in blocks of 8 pixels."""
    return {-(-width // 8), -(-width // (8 if subsampling == "4:4:4" else 16))}


def incomplete(height: int, width: int, mode: str = "RGB", **options: object) -> list[bytes]:
    """A progressive file with only its first scan, with its first two, and so on."""
    image = Image.fromarray(pixels(height, width)).convert(mode)
    data = encode(image, progressive=True, **options)
    return [data[:end] + b"\xff\xd9" for end in scan_ends(data)[:-1]]


@pytest.mark.parametrize("quality", [20, 90])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_what_is_missing_is_smoothed_as_pillow_does(subsampling: str, size: tuple[int, int], quality: int) -> None:
    height, width = size
    # Pillow's word for 4:2:0 is 4:1:1 too
    if LIBJPEG < (3, 0, 1) and (subsampling in ("4:2:0", "4:1:1") or 2 in blocks_across(width, subsampling)):
        pytest.skip(EDGES)
    for data in incomplete(height, width, subsampling=subsampling, quality=quality):
        assert_equals_pillow(data)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
@pytest.mark.parametrize("size", SIZES)
def test_in_other_modes_too(mode: str, size: tuple[int, int]) -> None:
    height, width = size
    if LIBJPEG < (3, 0, 1) and 2 in blocks_across(width, "4:4:4"):
        pytest.skip(EDGES)
    for data in incomplete(height, width, mode, restart_marker_blocks=4):
        assert_equals_pillow(data)


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_a_box_is_smoothed_as_the_whole_image(subsampling: str) -> None:
    for data in incomplete(61, 83, subsampling=subsampling):
        whole = _C.decode_image(data)
        for x0, y0, x1, y1 in [(5, 3, 41, 60), (8, 8, 9, 9), (31, 17, 83, 61)]:
            np.testing.assert_array_equal(_C.decode_image(data, box=(x0, y0, x1, y1)), whole[y0:y1, x0:x1])
