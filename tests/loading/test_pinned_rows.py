"""Loader(pin_rows=True): on a device if there is one; its logic everywhere, with the CPU in the device's place."""

from __future__ import annotations

import ctypes
import functools
import gc
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import largeds_native as lds
from largeds_native import _C
from largeds_native.errors import ArgumentError, DeviceError, RowIndexError
from largeds_native.loading import pinned_memory, pinned_rows
from largeds_native.loading.cut import Cut
from largeds_native.loading.pinned_rows import check_pin_rows
from tests.builders.pretended_cuda import Done, pretend_streams, pretended_loader, run_interpreted
from tests.builders.stores import make_jpeg_store, make_labelled_store, make_random_store
from tests.loading.epochs import MEAN, STD

on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

AUGMENTS = {
    "whole": None,
    "flips": lds.Augment(flip=0.5, vertical_flip=0.5),
    "random crop": lds.Augment(random_crop=(5, 6), flip=0.5),
    "padded": lds.Augment(random_crop=8, padding=3, flip=0.5),
    "center crop": lds.Augment(center_crop=(4, 7)),
    "two views": [lds.Augment(random_crop=6, flip=0.5), lds.Augment(vertical_flip=0.5)],
}


class Runtime:
    """CUDA's runtime, as far as it pins memory."""

    def __init__(self) -> None:
        self.pinned: dict[int, int] = {}
        self.fails_from = 1 << 60

    def cudaHostRegister(self, address: int, size: int, flags: int) -> int:
        assert address not in self.pinned  # cudaErrorHostMemoryAlreadyRegistered
        if len(self.pinned) >= self.fails_from:
            return 2
        self.pinned[address] = size
        return 0

    def cudaHostUnregister(self, address: int) -> int:
        del self.pinned[address]
        return 0


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """The CPU in a device's place."""
    runtime = Runtime()
    pretend_streams(monkeypatch)
    monkeypatch.setattr(pinned_rows, "PINNED", pinned_memory.PinnedMemory(lambda: runtime))
    monkeypatch.setattr(pinned_rows, "error_text", lambda code: f"error {code}")

    def copy(targets: Any, sources: Any, sizes: Any, stream: Any) -> int:
        for target, source, size in zip(targets, sources, sizes, strict=True):
            assert any(start <= source <= source + size <= start + n for start, n in runtime.pinned.items())
            ctypes.memmove(int(target), int(source), int(size))
        return 0

    monkeypatch.setattr(pinned_rows, "copy_function", lambda: copy)
    return runtime


pretended = functools.partial(pretended_loader, pin_rows=True)


def flat(batch: Any) -> list[torch.Tensor]:
    return [tensor for part in batch for tensor in (part if isinstance(part, list) else [part])]


def assert_same(ours: Any, expected: Any, **tolerance: Any) -> None:
    for found, wanted in zip(ours, expected, strict=True):
        for a, b in zip(flat(found), flat(wanted), strict=True):
            assert a.dtype == b.dtype
            assert a.stride() == b.stride()
            torch.testing.assert_close(a.cpu(), b, **{"rtol": 0, "atol": 0} | tolerance)


def stores(folder: Path) -> dict[str, Any]:
    sizes = {"CHW": (3, 8, 9), "HWC": (8, 9, 3)}
    return {name: make_random_store(folder / name, 50, shape, layout=name) for name, shape in sizes.items()}


@pytest.mark.parametrize("augment", AUGMENTS)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("layout", ["CHW", "HWC"])
def test_the_batches_are_those_of_the_cpu(
    tmp_path: Path, runtime: Runtime, layout: str, channels_last: bool, augment: str
) -> None:
    store = stores(tmp_path)[layout]
    kwargs: dict[str, Any] = {"shuffle": True, "seed": 3, "augment": AUGMENTS[augment], "channels_last": channels_last}
    for dtype in (torch.uint8, torch.float32):
        ours = pretended(store, 16, dtype=dtype, **kwargs)
        expected = lds.Loader(store, 16, dtype=dtype, **kwargs)
        for _ in range(2):
            assert_same(ours, expected, rtol=1e-6, atol=1e-6)
    assert sum(runtime.pinned.values()) >= store.nbytes


@pytest.mark.parametrize(("dtype", "layout"), [("float32", "CHW"), ("uint16", "HWC"), ("int16", "CHW")])
def test_other_dtypes_come_as_they_are(tmp_path: Path, runtime: Runtime, dtype: str, layout: str) -> None:
    shape = (3, 8, 9) if layout == "CHW" else (8, 9, 3)
    store = make_random_store(tmp_path / "s", 20, shape, dtype, layout)
    kwargs: dict[str, Any] = {
        "dtype": getattr(torch, dtype),
        "augment": lds.Augment(random_crop=5, padding=2, flip=0.5),
    }
    assert_same(pretended(store, 6, **kwargs), lds.Loader(store, 6, **kwargs))


def test_order_position_errors_and_statistics(store: Any, runtime: Runtime) -> None:
    loader = pretended(store, 2, dtype=torch.uint8, order=[1, 2, 99, 4, 500, 5, 6, 7])
    iterator = iter(loader)
    images, labels = next(iterator)
    assert torch.equal(images, torch.from_numpy(np.array(store.images[[1, 2]])))
    assert labels.tolist() == [1, 2]
    state = loader.state_dict()
    assert next(iterator)[1].tolist() == [99, 4]
    with pytest.raises(RowIndexError, match="row 500"):
        next(iterator)
    assert next(iterator)[1].tolist() == [6, 7]
    loader.load_state_dict(state)
    assert next(iter(loader))[1].tolist() == [99, 4]
    loader = pretended(store, 16, dtype=torch.uint8)
    batches = list(loader)
    stats = loader.stats()
    assert stats["bytes"] == sum(images.nbytes for images, _ in batches)
    assert stats["copied_bytes"] == stats["bytes"] + sum(labels.nbytes for _, labels in batches)


def test_rows_are_pinned_once_and_until_the_loader_is_closed(store: Any, runtime: Runtime) -> None:
    loader = pretended(store, 16, dtype=torch.uint8)
    assert not runtime.pinned
    iterator = iter(loader)
    pinned = dict(runtime.pinned)
    assert len(pinned) == len(store.shards)
    list(loader)
    list(pretended(store, 4, indices=range(30)))
    assert runtime.pinned == pinned
    loader.close()
    assert runtime.pinned == pinned  # an iterator may still be copying
    del iterator, loader
    gc.collect()
    assert not runtime.pinned


def test_what_can_not_be_pinned_leaves_nothing_pinned(
    store: Any, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime.fails_from = 2
    loader = pretended(store, 16)
    loader.load_state_dict(state := lds.Loader(store, 16).state_dict() | {"position": 8})
    with pytest.raises(DeviceError, match=r"pin_rows: .* could not be pinned: error 2\. Use pin_rows=False") as kept:
        iter(loader)
    assert not runtime.pinned  # though the error, which knows the frames, is kept
    assert loader.state_dict() == state
    runtime.fails_from = 1 << 60
    assert next(iter(loader))[1].tolist() == list(range(8, 24))
    del loader, kept
    gc.collect()
    assert not runtime.pinned
    monkeypatch.setattr(pinned_rows, "memory_limit", lambda: 1000)
    with pytest.raises(ArgumentError, match=r"pin_rows: the rows of .* take .*, and this process may use 1.0 kB"):
        iter(pretended(store, 16))
    assert not runtime.pinned


def test_pieces_are_counted_whoever_releases_them_when(runtime: Runtime) -> None:
    """A finalizer may run while another thread pins, or in the middle of a `pin` of its own thread."""
    memory = pinned_memory.PinnedMemory(lambda: runtime)
    register = runtime.cudaHostRegister

    def during(address: int, size: int, flags: int) -> int:
        memory.release(os.getpid(), [(4096, 10)], None)
        return register(address, size, flags)

    assert memory.pin(4096, 10) == memory.pin(4096, 10) == 0
    memory.release(os.getpid() + 1, [(4096, 10)], None)  # in a forked process
    runtime.cudaHostRegister = during  # type: ignore[method-assign]
    assert memory.pin(8192, 20) == 0
    assert runtime.pinned == {4096: 10, 8192: 20}
    assert memory.bytes_beside([(8192, 20)]) == 10
    runtime.cudaHostRegister = register  # type: ignore[method-assign]
    memory.release(os.getpid(), [(4096, 10), (8192, 20)], None)
    assert not runtime.pinned
    with ThreadPoolExecutor(8) as threads:

        def work(number: int) -> None:
            assert memory.pin(4096 * (number % 3), 10) == 0
            memory.release(os.getpid(), [(4096 * (number % 3), 10)], None)

        list(threads.map(work, range(400)))
    assert not runtime.pinned


def test_a_copy_that_fails(store: Any, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pinned_rows, "copy_function", lambda: lambda *_: 700)
    monkeypatch.setattr(Done, "query", lambda _: False)
    iterator = iter(pretended(store, 16))
    with pytest.raises(DeviceError, match="the device could not copy rows: error 700"):
        next(iterator)
    assert iterator._source._copying  # a part of it may be on its way


@pytest.mark.parametrize("version", [None, "11.8", "12.4"])
def test_an_older_cuda_is_refused(version: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", version)
    with pytest.raises(ArgumentError, match=rf"CUDA 12\.8 or newer is needed, and torch has {version or 'none'}"):
        pinned_memory.copy_function.__wrapped__()


def test_a_runtime_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "99.1")
    with pytest.raises(ArgumentError, match="the CUDA runtime of torch was not found: libcudart"):
        pinned_memory._runtime.__wrapped__()


def test_what_a_device_can_not_read_itself(tmp_path: Path, store: Any) -> None:
    def refused(store: Any, reason: str, *views: lds.Augment, pictures: Any = (), converted: bool = False) -> None:
        with pytest.raises(ArgumentError, match=rf"pin_rows: the images of .* {reason}.*\. Use pin_rows=False"):
            check_pin_rows(store, views or (lds.Augment(),), pictures, converted)

    refused(store, "are resized", lds.Augment(resized_crop=4))
    refused(store, "are resized", lds.Augment(), lds.Augment(resize=6, center_crop=4))
    refused(store, "come with masks", pictures=("mask",))
    refused(store, "are converted by the CPU", converted=True)
    refused(make_jpeg_store(tmp_path), "are jpeg rows")
    refused(make_random_store(tmp_path / "v", variants=2), "have several variants")
    with pytest.raises(ArgumentError, match="rows are pinned for a CUDA device, and device is 'cpu'"):
        lds.Loader(store, 16, pin_rows=True)
    with pytest.raises(ArgumentError, match="pin_rows: expected True or False, found 'yes'"):
        lds.Loader(store, 16, pin_rows="yes")


@given(
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**63 - 1),
    st.sampled_from(
        [lds.Augment(random_crop=(3, 5), padding=2, flip=0.4, vertical_flip=0.7), lds.Augment(center_crop=4)]
    ),
    st.integers(0, 3),
)
def test_boxes_are_what_a_gather_draws(seed: int, epoch: int, augment: lds.Augment, view: int) -> None:
    keys = [0, 7, 2**40]
    found = _C.boxes(augment.core(), 8, 9, seed, epoch, keys, view)
    for key, (x, y, flip, vertical_flip) in zip(keys, found.tolist(), strict=True):
        box, _, _, *flips = _C.geometry(augment.core(), 8, 9, seed, epoch, key, view)
        assert [x, y, bool(flip), bool(vertical_flip)] == [*box[:2], *flips]


def test_boxes_of_what_is_resized() -> None:
    with pytest.raises(ArgumentError, match="is resized"):
        _C.boxes(lds.Augment(resize=4, center_crop=4).core(), 8, 9, 0, 0, [1])


def test_addresses_of_rows(store: Any) -> None:
    rows = store.rows
    samples = [0, 99, 31, 31]
    for sample, address in zip(samples, rows.addresses(samples), strict=True):
        assert ctypes.string_at(int(address), rows.row_bytes) == np.asarray(store.images[sample]).tobytes()
        assert any(start <= address < start + size for start, size in rows.mapped())
    with pytest.raises(RowIndexError):
        rows.addresses([100])


def slow_cut(images: torch.Tensor, boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """One pixel after another."""
    out = torch.zeros(*images.shape[:2], height, width, dtype=images.dtype)
    for n, (left, top, flip, vertical_flip) in enumerate(boxes.tolist()):
        for y in range(height):
            for x in range(width):
                source_y = top + (height - 1 - y if vertical_flip else y)
                source_x = left + (width - 1 - x if flip else x)
                if 0 <= source_y < images.shape[2] and 0 <= source_x < images.shape[3]:
                    out[n, :, y, x] = images[n, :, source_y, source_x]
    return out


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_cutting_equals_the_slow_way(data: st.DataObject) -> None:
    side, size = st.integers(1, 9), st.sampled_from([torch.contiguous_format, torch.channels_last])
    n, channels = data.draw(st.integers(0, 3)), data.draw(st.integers(1, 4))
    dtype = data.draw(st.sampled_from([torch.uint8, torch.uint16, torch.float32]))
    shape, (height, width) = (n, channels, data.draw(side), data.draw(side)), (data.draw(side), data.draw(side))
    images = torch.randint(0, 256, shape).to(dtype)
    if dtype is torch.float32:
        images.copy_(torch.tensor([-1.0, torch.nan, torch.inf])[torch.randint(3, shape)])
    corner, flips = st.integers(-3, 4), st.integers(0, 1)
    boxes = torch.tensor(
        [[data.draw(corner), data.draw(corner), data.draw(flips), data.draw(flips)] for _ in range(n)],
        dtype=torch.int32,
    ).view(n, 4)
    given_images = torch.empty_like(images, memory_format=data.draw(size)).copy_(images)
    out = torch.empty((n, channels, height, width), dtype=dtype, memory_format=data.draw(size))
    Cut(torch.device("cpu"))(given_images, boxes, out)
    expected = slow_cut(images, boxes, height, width)
    if dtype is torch.float32:
        assert torch.equal(out.signbit(), expected.signbit())
    torch.testing.assert_close(out, expected, rtol=0, atol=0, equal_nan=True)


INTERPRETED = """
import torch
from largeds_native.loading.cut import Cut
from largeds_native.loading.triton_kernels import launch_cut

torch.manual_seed(0)
formats = (torch.contiguous_format, torch.channels_last)
for shape, size in (((3, 3, 7, 5), (4, 4)), ((2, 1, 40, 50), (40, 50)), ((1, 4, 3, 3), (5, 2)), ((2, 2, 9, 9), (1, 1))):
    for given in formats:
        for wanted in formats:
            for dtype in (torch.uint8, torch.int16, torch.float32):
                images = torch.randint(0, 256, shape).to(dtype).to(memory_format=given)
                boxes = torch.randint(-2, 4, (shape[0], 4), dtype=torch.int32)
                boxes[:, 2:] %= 2
                out, expected = (torch.empty((*shape[:2], *size), dtype=dtype, memory_format=wanted) for _ in range(2))
                Cut(torch.device("cpu"))(images, boxes, expected)
                launch_cut(images, boxes, out)
                assert torch.equal(out, expected)
                launch_cut(images, boxes, out.zero_(), wide=True)
                assert torch.equal(out, expected)
"""


def test_the_kernel_equals_torch() -> None:
    """Triton's kernel in its interpreter, which needs no device."""
    run_interpreted(INTERPRETED)


@on_cuda
@pytest.mark.parametrize("augment", AUGMENTS)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("layout", ["CHW", "HWC"])
def test_on_a_device(tmp_path: Path, layout: str, channels_last: bool, augment: str) -> None:
    store = stores(tmp_path)[layout]
    for dtype in (torch.uint8, torch.bfloat16):
        kwargs: dict[str, Any] = {"shuffle": True, "seed": 3, "augment": AUGMENTS[augment], "dtype": dtype}
        kwargs |= {"channels_last": channels_last} | ({} if dtype is torch.uint8 else {"mean": MEAN, "std": STD})
        ours = lds.Loader(store, 16, device="cuda", pin_rows=True, **kwargs)
        expected = lds.Loader(store, 16, **kwargs)
        for _ in range(2):
            kept = []
            for batch in ours:
                torch.cuda._sleep(1_000_000)
                kept.append(batch)
            assert_same(
                kept, expected, rtol=0 if dtype is torch.uint8 else 1e-2, atol=0 if dtype is torch.uint8 else 1e-2
            )


@on_cuda
def test_colours_on_a_device(tmp_path: Path) -> None:
    store = make_labelled_store(tmp_path, 40, 32)
    kwargs: dict[str, Any] = {
        "augment": lds.Augment(random_crop=24, flip=0.5),
        "color": lds.ColorAugment(brightness=0.4),
    }
    kwargs |= {"device": "cuda", "shuffle": True}
    assert_same([flat(b) for b in lds.Loader(store, 16, pin_rows=True, **kwargs)], [
        [one.cpu() for one in flat(b)] for b in lds.Loader(store, 16, **kwargs)
    ])  # fmt: skip


@on_cuda
def test_an_iteration_that_ends_early_and_a_closed_loader(store: Any) -> None:
    expected = next(iter(lds.Loader(store, 50, dtype=torch.uint8)))[0]
    for _ in range(20):
        with lds.Loader(store, 50, device="cuda", dtype=torch.uint8, pin_rows=True) as loader:
            images = next(iter(loader))[0]
        assert torch.equal(images.cpu(), expected)
