"""Batches gathered in C++ equal those computed one sample at a time."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from largeds_native import _C
from largeds_native.errors import ArgumentError, RowIndexError
from tests import reference

DTYPES = {"uint8": torch.uint8, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
MULTIPLY, ADD = (0.017, 0.0175, 0.0174, 0.02), (-2.1, -2.03, -1.8, 0.5)


def make_rows(folder: Path, images: np.ndarray, planar: bool) -> _C.Rows:
    stored = images.transpose(0, 3, 1, 2) if planar else images
    path = folder / "images.bin"
    path.write_bytes(np.ascontiguousarray(stored).tobytes())
    return _C.Rows([(str(path), 0, len(images))], images[0].nbytes)


def make_gather(
    rows: _C.Rows,
    height: int,
    width: int,
    *,
    channels: int = 3,
    planar: bool = True,
    row_type: str = "uint8",
    multiply: tuple[float, ...] = (),
    add: tuple[float, ...] = (),
    **kwargs: Any,
) -> _C.Gather:
    """`kwargs` as in tests/reference.py: those of AugmentSpec, and the format of the batch."""
    output = _C.OutputSpec(
        planar=kwargs.pop("planar_out", True), dtype=kwargs.pop("out_type", "float32"), multiply=multiply, add=add
    )
    size = {"height": kwargs.pop("out_height", height), "width": kwargs.pop("out_width", width)}
    layout = _C.ImageLayout(channels=channels, height=height, width=width, planar=planar, dtype=row_type)
    picture = _C.Picture(rows, _C.ReadSpec(layout), output)
    return _C.Gather([picture], views=[_C.AugmentSpec(**size, **kwargs)])


def empty_batch(n: int, channels: int, kwargs: dict[str, Any]) -> torch.Tensor:
    shape = (n, channels, kwargs["out_height"], kwargs["out_width"])
    out = torch.empty(shape, dtype=DTYPES[kwargs["out_type"]])
    return out if kwargs["planar_out"] else out.contiguous(memory_format=torch.channels_last)


def scaled(sample: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    """One fused multiply-add per value, rounded to float32 and then to dtype."""
    channels = len(sample)
    multiply = np.float32(MULTIPLY[:channels]).astype(np.float64)[:, None, None]
    add = np.float32(ADD[:channels]).astype(np.float64)[:, None, None]
    # 8 by 24 bits multiply exactly in float64; the sum's second rounding can't reach a float32 tie here
    return torch.from_numpy((sample * multiply + add).astype(np.float32)).to(dtype)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_equals_one_at_a_time(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    draw = data.draw
    height, width, channels = draw(st.integers(1, 40)), draw(st.integers(1, 40)), draw(st.sampled_from([1, 2, 3, 4]))
    crop = draw(st.sampled_from(["none", "center", "random", "random_resized"]))
    padding = draw(st.integers(0, 5)) if crop == "random" else 0
    kwargs: dict[str, Any] = {"crop": crop, "padding": padding, "out_height": height, "out_width": width}
    if crop == "random_resized":
        kwargs["out_height"], kwargs["out_width"] = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    elif crop != "none":
        kwargs["out_height"] = draw(st.integers(1, height + 2 * padding))
        kwargs["out_width"] = draw(st.integers(1, width + 2 * padding))
    kwargs["planar_out"], kwargs["out_type"] = draw(st.booleans()), draw(st.sampled_from(sorted(DTYPES)))
    kwargs["flip"], kwargs["vertical_flip"] = draw(st.sampled_from([0.0, 0.5, 1.0])), draw(st.sampled_from([0, 0.5, 1]))
    planar, seed, epoch = draw(st.booleans()), draw(st.integers(0, 2**64 - 1)), draw(st.integers(0, 9))

    images = np.random.default_rng(height).integers(0, 256, (7, height, width, channels), dtype=np.uint8)
    rows = make_rows(tmp_path_factory.mktemp("rows"), images, planar)
    gather = make_gather(
        rows,
        height,
        width,
        channels=channels,
        planar=planar,
        multiply=MULTIPLY[:channels],
        add=ADD[:channels],
        **kwargs,
    )
    indices = np.array(draw(st.lists(st.integers(0, 6), max_size=9)), np.int64)
    out = empty_batch(len(indices), channels, kwargs)
    gather.run(indices, seed, epoch, [out], _C.Pool(draw(st.integers(1, 3))))
    for found, index in zip(out, indices.tolist(), strict=True):
        expected = reference.gathered_sample(images[index], index, seed, epoch, kwargs)
        if kwargs["out_type"] == "uint8":
            np.testing.assert_array_equal(found.numpy(), expected)
        else:
            assert torch.equal(found, scaled(expected, DTYPES[kwargs["out_type"]]))


@pytest.mark.parametrize("out_type", sorted(DTYPES))
@pytest.mark.parametrize("planar_out", [True, False])
def test_a_batch_larger_than_the_caches(tmp_path: Path, out_type: str, planar_out: bool) -> None:
    """Kernels write large batches with streaming stores; odd sizes misalign them."""
    images = np.random.default_rng(0).integers(0, 256, (3, 101, 99, 3), dtype=np.uint8)
    kwargs = {"out_height": 101, "out_width": 99, "out_type": out_type, "planar_out": planar_out}
    rows = make_rows(tmp_path, images, planar_out)
    gather = make_gather(rows, 101, 99, planar=planar_out, multiply=MULTIPLY[:3], add=ADD[:3], **kwargs)
    indices = np.arange(200) % 3
    out = empty_batch(200, 3, kwargs)
    gather.run(indices, 0, 0, [out], _C.Pool(2))
    for index in range(3):
        plain = torch.from_numpy(images[index].transpose(2, 0, 1).copy())
        expected = plain if out_type == "uint8" else scaled(plain.numpy(), DTYPES[out_type])
        assert torch.equal(out[index::3], expected.expand_as(out[index::3]))


@pytest.mark.parametrize("row_type", ["float32", "float16"])
@pytest.mark.parametrize("planar", [True, False])
def test_rows_of_floats_pass_through(tmp_path: Path, row_type: str, planar: bool) -> None:
    images = np.random.default_rng(0).normal(size=(4, 6, 5, 3)).astype(row_type)
    kwargs = {"out_height": 6, "out_width": 5, "out_type": row_type, "planar_out": not planar, "flip": 1.0}
    gather = make_gather(make_rows(tmp_path, images, planar), 6, 5, planar=planar, row_type=row_type, **kwargs)
    out = empty_batch(4, 3, kwargs)
    gather.run(np.arange(4), 0, 0, [out], _C.Pool(1))
    np.testing.assert_array_equal(out.numpy(), images[:, :, ::-1].transpose(0, 3, 1, 2))


def small(tmp_path: Path, **kwargs: Any) -> _C.Gather:
    images = np.zeros((5, 8, 8, 3), np.uint8)
    return make_gather(make_rows(tmp_path, images, True), **({"height": 8, "width": 8} | kwargs))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"channels": 40}, "1 to 32 channels"),
        ({"height": 9}, "hold no images"),
        ({"crop": "random", "out_height": 10}, "10x8 does not fit into images of 8x8"),
        ({"crop": "center", "out_width": 9}, "does not fit"),
        ({"crop": "somewhere"}, "found 'somewhere'"),
        ({"out_type": "int8"}, "found 'int8'"),
        ({"flip": 1.5}, "flip is a probability"),
        ({"vertical_flip": -0.5}, "vertical_flip is a probability"),
        ({"multiply": (1.0, 1.0)}, "expected 3 numbers"),
        ({"multiply": (1.0,) * 20_000}, "expected 3 numbers"),
        ({"channels": 20_000, "multiply": (1.0,) * 20_000}, "1 to 32 channels"),
        ({"crop": "random", "padding": 2**30}, "padding"),
        ({"crop": "center", "out_height": 0}, "at least 1x1"),
        ({"height": 0}, "found 0x8"),
        ({"add": (1.0, float("nan"), 0.0)}, "finite"),
        ({"crop": "random_resized", "scale": (0.0, 1.0)}, "scale"),
        ({"crop": "random_resized", "ratio": (2.0, 1.0)}, "ratio"),
        ({"padding": -1}, "padding"),
    ],
)
def test_invalid_options(tmp_path: Path, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        small(tmp_path, **kwargs)


def test_the_batch_must_fit(tmp_path: Path) -> None:
    gather, pool = small(tmp_path), _C.Pool(1)
    for out, message in [
        (torch.empty(2, 3, 8, 7), r"expected shape \(2, 3, 8, 8\), found \(2, 3, 8, 7\)"),
        (torch.empty(3, 3, 8, 8), "expected shape"),
        (torch.empty(2, 3, 8, 8, dtype=torch.float16), "expected dtype float32, found float16"),
        (torch.empty(2, 3, 8, 8).contiguous(memory_format=torch.channels_last), "expected a contiguous tensor"),
        (torch.empty(2, 3, 8, 8, requires_grad=True), "require grad"),
        (torch.empty(2, 3, 8, 8, device="meta"), "on the CPU"),
    ]:
        with pytest.raises(ArgumentError, match=message):
            gather.run([0, 1], 0, 0, [out], pool)


def test_a_batch_over_read_only_memory_is_refused(tmp_path: Path) -> None:
    """A write to it would end the process by SIGSEGV."""
    np.save(tmp_path / "out.npy", np.ones((2, 3, 8, 8), np.float32))
    gather = small(tmp_path)
    for mode in ("r", "c", "r+"):
        mapped = np.load(tmp_path / "out.npy", mmap_mode=mode)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of an array that is not writable
            out = torch.from_numpy(mapped)
        if mode == "r":
            with pytest.raises(ArgumentError, match="out: expected a tensor that may be written to, found one over"):
                gather.run([0, 1], 0, 0, [out], _C.Pool(1))
        else:
            gather.run([0, 1], 0, 0, [out], _C.Pool(1))
            assert not bool((out == 1.0).all())


@pytest.mark.parametrize("index", [-1, 5, 2**50])
def test_an_index_outside_writes_nothing(tmp_path: Path, index: int) -> None:
    out = torch.full((3, 3, 8, 8), 7.0)
    with pytest.raises(RowIndexError, match=f"row {index} is outside the store's 5 rows"):
        small(tmp_path).run([0, 1, index], 0, 0, [out], _C.Pool(2))
    assert bool((out == 7.0).all())
