"""Tensors exchanged with the core: memory is released by torch's reference counts."""

from __future__ import annotations

import gc
import pickle
import sys
import threading
from typing import Any

import numpy as np
import pytest
import torch

from largeds_native import _C
from largeds_native.errors import ArgumentError
from largeds_native.store.gather import BatchFormat

NAMES = ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]
NAMES += ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
READ = _C.ReadSpec(_C.ImageLayout(channels=3, height=8, width=8))


def in_use(ring: _C.Ring) -> int:
    return ring.stats()["slots_in_use"]


@pytest.mark.parametrize("name", NAMES)
def test_every_dtype(name: str) -> None:
    dtype: torch.dtype = getattr(torch, name)
    tensor = _C.Ring(0, 1).tensor((2, 3), name)
    assert tensor.dtype is dtype
    assert tensor.shape == (2, 3)
    assert tensor.is_contiguous()
    assert tensor.untyped_storage().nbytes() == 6 * dtype.itemsize


@pytest.mark.parametrize("shape", [(), (0,), (0, 3, 8, 8), (1,), (5, 1, 2)])
def test_odd_shapes(shape: tuple[int, ...]) -> None:
    tensor = _C.Ring(0, 1).tensor(shape, "float32").fill_(3)
    assert tensor.shape == shape
    assert torch.equal(tensor, torch.full(shape, 3.0))


@pytest.mark.parametrize("bad", [((2,), "int7"), ((-1,), "uint8"), ((2**40, 2**40), "int64")])
def test_invalid_tensors(bad: Any) -> None:
    ring = _C.Ring(0, 1)
    with pytest.raises(ArgumentError):
        ring.tensor(*bad)
    assert in_use(ring) == 0


@pytest.mark.parametrize(
    "made_of",
    [
        lambda t: t,
        lambda t: t[1:, ::2],
        lambda t: t.view(-1)[3:],
        lambda t: t.transpose(0, 1),
        lambda t: t.detach(),
        lambda t: t.untyped_storage(),
        lambda t: t.numpy(),
        lambda t: np.from_dlpack(t),
        lambda t: torch.from_dlpack(t),
        lambda t: torch.nn.Parameter(t),
        lambda t: t.view(torch.int32),
    ],
)
def test_what_refers_to_a_tensor_keeps_its_slot(made_of: Any) -> None:
    ring = _C.Ring(0, 1)
    tensor = ring.tensor((4, 6), "float32").fill_(1)
    kept = made_of(tensor)
    del tensor
    gc.collect()
    assert in_use(ring) == 1
    ring.tensor((4, 6), "float32")
    assert ring.stats()["slots"] == 2  # it was given another one
    del kept
    gc.collect()
    assert in_use(ring) == 0


def test_what_is_copied_does_not() -> None:
    ring = _C.Ring(0, 1)
    tensor = ring.tensor((4, 6), "float32").fill_(1)
    copies = [tensor.clone(), tensor * 1, pickle.loads(pickle.dumps(tensor)), tensor.to(torch.float64)]
    moved = ring.tensor((4, 6), "float32").fill_(1).share_memory_()
    del tensor
    gc.collect()
    assert in_use(ring) == 0
    ring.tensor((4, 6), "float32").fill_(2)
    assert all(bool((copy == 1).all()) for copy in [*copies, moved])


def test_what_autograd_saved_keeps_its_slot() -> None:
    ring = _C.Ring(0, 1)
    weight = torch.ones(6, requires_grad=True)
    loss = (ring.tensor((4, 6), "float32").fill_(3) * weight).sum()
    assert in_use(ring) == 1
    loss.backward()
    del loss
    assert in_use(ring) == 0
    assert weight.grad is not None
    assert weight.grad.tolist() == [12.0] * 6


def test_a_slot_comes_back_from_any_thread_and_after_the_ring() -> None:
    ring = _C.Ring(0, 1)
    tensors = [ring.tensor((100,), "uint8") for _ in range(8)]
    threads = [threading.Thread(target=tensors.pop) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert in_use(ring) == 0
    last = ring.tensor((100,), "uint8").fill_(7)
    del ring
    assert last.tolist() == [7] * 100


def test_any_tensor_can_be_filled(tmp_path: Any) -> None:
    """Strides of axes of length 1 don't matter; views into larger tensors can be filled."""
    path = tmp_path / "images.bin"
    images = np.arange(3 * 4 * 4, dtype=np.uint8).reshape(3, 1, 4, 4)
    path.write_bytes(images.tobytes())
    layout = _C.ImageLayout(channels=1, height=4, width=4)
    rows = _C.Rows([(str(path), 0, 3)], 16)
    gather = _C.Gather([_C.Picture(rows, _C.ReadSpec(layout), _C.OutputSpec(dtype="uint8"))])
    pool = _C.Pool(1)
    large = torch.zeros(5, 1, 4, 4, dtype=torch.uint8)
    strange = torch.zeros(100, dtype=torch.uint8).as_strided((1, 1, 4, 4), (77, 55, 4, 1), 3)
    subclass = torch.nn.Parameter(torch.zeros(1, 1, 4, 4, dtype=torch.uint8), requires_grad=False)
    for out in (large[1:4], strange, subclass, torch.empty(0, 1, 4, 4, dtype=torch.uint8)):
        indices = np.arange(len(out))
        gather.run(indices, 0, 0, [out], pool)
        assert torch.equal(out, torch.from_numpy(images[: len(out)]))
    assert bool((large[[0, 4]] == 0).all())
    for bad in (None, np.zeros((1, 1, 4, 4), np.uint8), [1], torch.zeros(1, 1, 4, 4, dtype=torch.uint8).to_sparse()):
        with pytest.raises(ArgumentError, match="out: expected a dense tensor on the CPU"):
            gather.run(np.arange(1), 0, 0, [bad], pool)  # type: ignore[arg-type]


def test_nothing_is_leaked() -> None:
    ring = _C.Ring(0, 1)
    for _ in range(100):
        ring.tensor((2, 3), "float32")
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(1000):
        ring.tensor((2, 3), "float32")
    gc.collect()
    assert sys.getallocatedblocks() - before < 100
    assert ring.stats() == {"slots": 1, "slots_in_use": 0, "slot_bytes": 24, "allocations": 1}


# ---- pinned slots --------------------------------------------------------------------------------------------------


@pytest.fixture
def pinning(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Replaces pinning in torch; records (thread, bytes) of each call."""
    asked: list[tuple[str, int]] = []
    real = torch.empty

    def empty(*size: Any, pin_memory: bool = False, **kwargs: Any) -> torch.Tensor:
        if pin_memory:
            asked.append((threading.current_thread().name, int(size[0])))
        return real(*size, **kwargs)

    monkeypatch.setattr(torch, "empty", empty)
    return asked


def test_pinned_slots_are_allocated_by_the_submitting_thread(store: Any, pinning: list[tuple[str, int]]) -> None:
    """The thread that fills them never needs the GIL."""
    rows = store.rows
    gather = _C.Gather([_C.Picture(rows, READ, _C.OutputSpec(dtype="uint8"))])
    ring = _C.Ring(0, 2, pinned=True)
    prefetcher = _C.Prefetcher(gather, [(store.field_rows("label"), "int64", [])], ring, _C.Pool(2))
    for first in range(0, 40, 10):
        prefetcher.submit(np.arange(first, first + 10), None, 0, 0)
    assert [thread for thread, _ in pinning] == ["MainThread"] * 4
    assert in_use(ring) == 4
    kept = [prefetcher.next() for _ in range(4)]
    for number, (images, labels) in enumerate(kept):
        assert labels.tolist() == list(range(10 * number, 10 * number + 10))
        assert torch.equal(images, torch.from_numpy(np.array(store.images[10 * number : 10 * number + 10])))
    images = labels = None
    kept.clear()
    prefetcher.submit(np.arange(10), None, 0, 0)
    prefetcher.submit(np.arange(10), None, 0, 0)
    prefetcher.next()
    assert len(pinning) == 4  # used again
    prefetcher.close()
    assert in_use(ring) == 0  # what was submitted and not delivered too


def test_failing_to_pin_memory_fails_only_the_submit(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gather = _C.Gather([_C.Picture(store.rows, READ, _C.OutputSpec(dtype="uint8"))])
    ring = _C.Ring(0, 2, pinned=True)
    prefetcher = _C.Prefetcher(gather, [], ring, _C.Pool(1))

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA error: out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(torch, "empty", refuse)
        with pytest.raises(RuntimeError, match="out of memory"):
            prefetcher.submit(np.arange(10), None, 0, 0)
    assert in_use(ring) == 0
    with pytest.raises(ArgumentError, match="no batch is submitted"):
        prefetcher.next()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_pinned_slots_are_pinned(store: Any) -> None:
    gather = _C.Gather([_C.Picture(store.rows, READ, _C.OutputSpec(dtype="uint8"))])
    ring = _C.Ring(0, 2, pinned=True)
    prefetcher = _C.Prefetcher(gather, [(store.field_rows("label"), "int64", [])], ring, _C.Pool(1))
    prefetcher.submit(np.arange(10), None, 0, 0)
    images, labels = prefetcher.next()
    assert images.is_pinned()
    assert labels.is_pinned()
    assert ring.tensor((3,), "uint8").is_pinned()
    torch.cuda._sleep(100_000_000)
    event = torch.cuda.Event()
    there = images.to("cuda", non_blocking=True)
    event.record()
    assert not event.query()  # the copy was only queued
    assert torch.equal(there.cpu(), images)


def test_rows_that_hold_other_values_than_a_field_says(store: Any) -> None:
    gather = BatchFormat(store).gather
    rows = store.field_rows("label")
    ring, pool = _C.Ring(1 << 16, 2), _C.Pool(1)
    for dtype, shape in (("float64", [10_000]), ("int64", [2]), ("int32", [])):
        with pytest.raises(ArgumentError, match="rows of 8 bytes hold no values of dtype"):
            _C.Prefetcher(gather, [(rows, dtype, shape)], ring, pool)
    for arguments in ((None, [], ring, pool), (gather, [], ring, None)):
        with pytest.raises(TypeError):
            _C.Prefetcher(*arguments)
    with pytest.raises(ArgumentError, match="expected rows, found None"):
        _C.Prefetcher(gather, [(None, "int64", [])], ring, pool)  # type: ignore[list-item]
    with pytest.raises(TypeError):
        _C.Picture(None, READ)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="row_bytes"):
        _C.close_gaps(0, 0, 0, [1, 2])
