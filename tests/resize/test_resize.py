"""Resizing equals Pillow, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from largeds_native import _C
from largeds_native.errors import ArgumentError

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def pixels(height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    """Noise with flat black and white patches, where the filters overshoot."""
    image = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    image[: height // 3, : width // 2] = 0
    image[height // 2 :, width // 2 :] = 255
    return image


def by_pillow(image: np.ndarray, height: int, width: int, name: str, box: tuple[float, ...] | None) -> np.ndarray:
    """Channel by channel, since Pillow has no plain mode for every number of channels."""
    planes = [Image.fromarray(np.ascontiguousarray(image[..., c])) for c in range(image.shape[2])]
    return np.stack([np.asarray(plane.resize((width, height), FILTERS[name], box=box)) for plane in planes], axis=-1)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 70), st.integers(1, 70), st.integers(1, 80), st.integers(1, 80), st.integers(1, 4),
    st.sampled_from(sorted(FILTERS)), st.booleans(), st.integers(0, 3), st.data(),
)  # fmt: skip
def test_equals_pillow(
    height: int,
    width: int,
    out_h: int,
    out_w: int,
    channels: int,
    name: str,
    planar: bool,
    seed: int,
    data: st.DataObject,
) -> None:
    image = pixels(height, width, channels, seed)
    box = None
    if data.draw(st.booleans()):
        x = sorted(data.draw(st.tuples(*[st.floats(0, width, width=32)] * 2)))
        y = sorted(data.draw(st.tuples(*[st.floats(0, height, width=32)] * 2)))
        if x[1] - x[0] > 0.1 and y[1] - y[0] > 0.1:
            box = (x[0], y[0], x[1], y[1])
    crop_x = sorted(data.draw(st.tuples(*[st.integers(0, out_w)] * 2)))
    crop_y = sorted(data.draw(st.tuples(*[st.integers(0, out_h)] * 2)))
    crop = (0, 0, out_w, out_h)
    if crop_x[0] < crop_x[1] and crop_y[0] < crop_y[1]:
        crop = (crop_x[0], crop_y[0], crop_x[1], crop_y[1])
    expected = by_pillow(image, out_h, out_w, name, box)[crop[1] : crop[3], crop[0] : crop[2]]
    found = _C.resize(image, out_h, out_w, box=box, crop=crop, filter=name, planar=planar)
    np.testing.assert_array_equal(found.transpose(1, 2, 0) if planar else found, expected)


@pytest.mark.parametrize("name", sorted(FILTERS))
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("size", "out"), [((375, 500), (256, 341)), ((700, 900), (32, 40)), ((30, 20), (224, 300))])
def test_equals_pillow_at_usual_sizes(name: str, channels: int, size: tuple[int, int], out: tuple[int, int]) -> None:
    image = pixels(*size, channels)
    np.testing.assert_array_equal(_C.resize(image, *out, filter=name), by_pillow(image, *out, name, None))


def test_without_antialias_the_filter_keeps_its_width() -> None:
    image = pixels(64, 64, 3)
    found = _C.resize(image, 16, 16, antialias=False).astype(int)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    expected = torch.nn.functional.interpolate(tensor, (16, 16), mode="bilinear", align_corners=False)
    assert np.abs(found - expected[0].permute(1, 2, 0).numpy()).max() <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"out_h": 0, "out_w": 5}, "at least 1x1"),
        ({"out_h": 5, "out_w": 5, "box": (0, 0, 9, 8)}, "box inside an image"),
        ({"out_h": 5, "out_w": 5, "box": (3, 0, 3, 8)}, "box inside an image"),
        ({"out_h": 5, "out_w": 5, "crop": (0, 0, 6, 5)}, "crop inside the resized image of 5x5"),
        ({"out_h": 5, "out_w": 5, "filter": "cubic"}, "found 'cubic'"),
    ],
)
def test_senseless_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        _C.resize(pixels(8, 8, 3), **arguments)
