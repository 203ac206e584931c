"""ImageTransform: its options alone and together."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from PIL import Image

import largeds_native as lds
from largeds_native import _C
from largeds_native.errors import ArgumentError
from largeds_native.transform import ImageTransform
from largeds_native.transform.image_transform import MAX_PIXELS


@pytest.mark.parametrize(
    ("given", "resize", "crop"),
    [
        ({}, 256, (224, 224)),
        ({"resize": 64}, 64, (64, 64)),
        ({"resize": 256}, 256, (256, 256)),
        ({"resize": (48, 64)}, (48, 64), None),
        ({"resize": None}, None, None),
        ({"crop": 192}, 219, (192, 192)),
        ({"crop": 224}, 256, (224, 224)),
        ({"crop": (100, 160)}, 183, (100, 160)),
        ({"crop": None}, 256, None),
        ({"resize": 256, "crop": 224}, 256, (224, 224)),
        ({"resize": None, "crop": 224}, None, (224, 224)),
        ({"resize": [30, 40], "crop": [30, 20]}, (30, 40), (30, 20)),
    ],
)
def test_the_size_that_is_not_given_follows_the_other(
    given: dict[str, Any], resize: int | tuple[int, int] | None, crop: tuple[int, int] | None
) -> None:
    transform = ImageTransform(**given)
    assert transform.resize == resize
    assert transform.crop == crop


def test_sizes() -> None:
    assert ImageTransform(resize=64).fixed_size == (64, 64)
    assert ImageTransform(resize=(48, 64)).fixed_size == (48, 64)
    assert ImageTransform(resize=None).fixed_size is None
    assert ImageTransform(crop=None).fixed_size is None
    assert ImageTransform(crop=None).output_size(300, 600) == (256, 512)
    assert ImageTransform(resize=None).output_size(30, 60) == (30, 60)
    assert ImageTransform(resize=64).output_size(300, 600) == (64, 64)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"resize": 64, "crop": 224}, "crop: 224x224 does not fit into images that are resized to 64x64"),
        ({"resize": (64, 300), "crop": 224}, "crop: 224x224 does not fit into images that are resized to 64x300"),
        ({"resize": (64, 300), "crop": (64, 301)}, "64x301 does not fit"),
        ({"resize": 0}, "resize: expected a whole number from 1"),
        ({"resize": (3, 0)}, "resize"),
        ({"resize": "256"}, "resize"),
        ({"resize": True}, "resize"),
        ({"crop": -1}, "crop"),
        ({"crop": (1, 2, 3)}, r"crop: expected a side, \(height, width\) or None"),
        ({"interpolation": "cubic"}, "interpolation: expected one of nearest, box, bilinear, bicubic, lanczos"),
        ({"decode": "fast"}, "decode: expected one of exact, scaled"),
        ({"mode": "RGBA"}, "mode"),
        ({"truncated": True}, "truncated"),
        ({"antialias": 1}, "antialias: expected True or False"),
        ({"exif_orientation": "yes"}, "exif_orientation"),
        ({"max_pixels": 0}, "max_pixels"),
    ],
)
def test_invalid_options(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        ImageTransform(**given)


def test_defaults_show_as_numbers_and_are_those_of_the_core() -> None:
    for function in (lds.pack, lds.decode_batch):
        text = str(inspect.signature(function))
        assert "= 256" in text
        assert "= 224" in text
    assert f" = {MAX_PIXELS}" in str(_C.decode_image.__doc__)
    assert f" = {MAX_PIXELS}" in str(_C.RowSpec.__init__.__doc__)


def test_pack_and_decode_batch_take_the_same(tmp_path: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    (tmp_path / "tree").mkdir()
    Image.fromarray(pixels).save(tmp_path / "tree" / "a.png")
    for given in ({"resize": 16}, {"crop": 12}, {"resize": (20, 12)}):
        store = lds.pack(tmp_path / "tree", tmp_path / str(given), progress=False, **given)  # type: ignore[arg-type]
        batch = lds.decode_batch([tmp_path / "tree" / "a.png"], **given)  # type: ignore[call-overload]
        np.testing.assert_array_equal(store.images[:], batch.numpy())
    with pytest.raises(ArgumentError, match="does not fit"):
        lds.pack(tmp_path / "tree", tmp_path / "none", resize=64, crop=224, progress=False)
    assert not (tmp_path / "none").exists()
