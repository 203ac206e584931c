"""Resizing equals Pillow's Image.resize, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from largeds_native import _C
from largeds_native.errors import ArgumentError
from tests.reference import needs_pillow_of_rows_first

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Box = tuple[float, float, float, float]


def noise(height: int, width: int, channels: int, seed: int = 0) -> Pixels:
    """Random pixels with many extremes, for which sums overflow first."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (height, width, channels), dtype=np.uint8)
    extreme = random.random(pixels.shape) < 0.3
    pixels[extreme] = random.integers(0, 2, int(extreme.sum()), dtype=np.uint8) * 255
    return pixels


def pillow(pixels: Pixels, out_h: int, out_w: int, box: Box | None, name: str) -> Pixels:
    """Resizes channel by channel as mode L, since Pillow premultiplies RGBA by alpha."""
    needs_pillow_of_rows_first()
    channels = [
        np.asarray(Image.fromarray(pixels[:, :, c]).resize((out_w, out_h), FILTERS[name], box))
        for c in range(pixels.shape[2])
    ]
    return np.stack(channels, axis=2)


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("height", "width", "out_h", "out_w"),
    [
        (375, 500, 256, 341),
        (64, 48, 64, 48),
        (64, 48, 64, 20),
        (64, 48, 20, 48),
        (30, 40, 97, 133),
        (1, 1, 9, 7),
        (200, 3, 10, 1),
        (50, 900, 17, 33),
        (600, 40, 21, 37),
        (300, 100, 64, 90),  # Pillow does the vertical pass first
    ],
)
def test_equals_pillow(name: str, channels: int, height: int, width: int, out_h: int, out_w: int) -> None:
    pixels = noise(height, width, channels)
    expected = pillow(pixels, out_h, out_w, None, name)
    np.testing.assert_array_equal(_C.resize(pixels, out_h, out_w, filter=name), expected)
    planar = _C.resize(pixels, out_h, out_w, filter=name, planar=True)
    np.testing.assert_array_equal(planar, expected.transpose(2, 0, 1))


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("CMYK", 4), ("RGBX", 4)])
def test_equals_pillow_in_its_own_modes(name: str, mode: str, channels: int) -> None:
    needs_pillow_of_rows_first()
    pixels = noise(71, 53, channels)
    image = Image.frombytes(mode, (53, 71), pixels.tobytes())
    resized = image.resize((31, 29), FILTERS[name])
    expected = np.frombuffer(resized.tobytes(), np.uint8).reshape(29, 31, channels)
    np.testing.assert_array_equal(_C.resize(pixels, 29, 31, filter=name), expected)


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    size = st.integers(1, 140)
    height, width, out_h, out_w = draw(size), draw(size), draw(size), draw(size)

    def interval(limit: int) -> tuple[float, float]:
        if draw(st.booleans()):  # whole pixels, where Pillow may leave a pass out
            low = draw(st.integers(0, limit - 1))
            return float(low), float(draw(st.integers(low + 1, limit)))
        low, high = sorted(draw(st.lists(st.floats(0, limit, width=32), min_size=2, max_size=2, unique=True)))
        return low, high

    (x0, x1), (y0, y1) = interval(width), interval(height)
    crop_x, crop_y = draw(st.integers(0, out_w - 1)), draw(st.integers(0, out_h - 1))
    return {
        "pixels": noise(height, width, draw(st.integers(1, 4)), draw(st.integers(0, 1000))),
        "out_h": out_h,
        "out_w": out_w,
        "box": draw(st.sampled_from([None, (x0, y0, x1, y1)])),
        "crop": (crop_x, crop_y, draw(st.integers(crop_x + 1, out_w)), draw(st.integers(crop_y + 1, out_h))),
        "filter": draw(st.sampled_from(list(FILTERS))),
    }


@settings(max_examples=200, deadline=None)
@given(cases(), st.booleans(), st.booleans())
def test_boxes_and_crops(case: dict[str, Any], planar: bool, planar_source: bool) -> None:
    pixels, crop = case.pop("pixels"), case["crop"]
    expected = pillow(pixels, case["out_h"], case["out_w"], case["box"], case["filter"])
    expected = expected[crop[1] : crop[3], crop[0] : crop[2]]
    source = np.ascontiguousarray(pixels.transpose(2, 0, 1)) if planar_source else pixels
    found = _C.resize(source, **case, planar=planar, planar_source=planar_source)
    np.testing.assert_array_equal(found.transpose(1, 2, 0) if planar else found, expected)


@pytest.mark.parametrize("name", ["nearest", "bilinear"])
def test_steps_that_drift(name: str) -> None:
    """Pillow's nearest filter adds its step repeatedly, and the sum differs from the product."""
    for width, out_w in [(10, 1000), (333, 997), (1001, 49), (77, 2310)]:
        pixels = noise(2, width, 3)
        np.testing.assert_array_equal(
            _C.resize(pixels, 3, out_w, filter=name), pillow(pixels, 3, out_w, None, name), err_msg=f"{width} {out_w}"
        )


def unantialiased(pixels: Pixels, out_size: int, support: float, weight: Any) -> Pixels:
    """Pillow's arithmetic along axis 0, with the filter's scale kept at 1."""
    size = pixels.shape[0]
    scale = size / out_size
    rows = []
    for i in range(out_size):
        center = (i + 0.5) * scale
        low, high = max(int(center - support + 0.5), 0), min(int(center + support + 0.5), size)
        weights = np.array([weight(abs(x - center + 0.5)) for x in range(low, high)])
        fixed = np.trunc(weights / weights.sum() * (1 << 22) + 0.5).astype(np.int64)
        rows.append((np.tensordot(fixed, pixels[low:high].astype(np.int64), 1) + (1 << 21)) >> 22)
    return np.clip(np.stack(rows), 0, 255).astype(np.uint8)


def test_without_antialias() -> None:
    pixels = noise(90, 110, 3)

    def weight(distance: float) -> float:
        return max(1.0 - distance, 0.0)

    across = unantialiased(pixels.transpose(1, 0, 2), 23, 1.0, weight).transpose(1, 0, 2)
    expected = unantialiased(across, 17, 1.0, weight)
    np.testing.assert_array_equal(_C.resize(pixels, 17, 23, antialias=False), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"out_h": 0, "out_w": 4}, "at least 1"),
        ({"out_h": 4, "out_w": 4, "box": (0, 0, 6.5, 5)}, "not inside the image of 6x5"),
        ({"out_h": 4, "out_w": 4, "box": (3, 3, 3, 5)}, "empty"),
        ({"out_h": 4, "out_w": 4, "crop": (0, 0, 5, 4)}, "crop"),
        ({"out_h": 4, "out_w": 4, "filter": "cubic"}, "found 'cubic'"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        _C.resize(noise(5, 6, 3), **arguments)


def test_too_many_channels() -> None:
    with pytest.raises(ArgumentError, match="1 to 4 channels, found 5"):
        _C.resize(noise(5, 6, 5), 3, 3)
