"""Loading to a CUDA device: on a real one if available, and its logic everywhere, with the CPU in its place."""

from __future__ import annotations

import functools
import importlib.util
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

import largeds_native as lds
from largeds_native.errors import ArgumentError, RowIndexError
from largeds_native.loading import cuda
from largeds_native.loading.cursor import NOTHING, Cursor
from largeds_native.loading.iterator import HostIterator
from largeds_native.loading.normalise import DeviceFormat, Normalise
from tests.builders.pretended_cuda import Done, pretend_streams, pretended_loader, run_interpreted
from tests.loading.epochs import MEAN, STD

AUGMENT = lds.Augment(random_crop=6, flip=0.5)
NORMAL: dict[str, Any] = {"shuffle": True, "mean": MEAN, "std": STD, "seed": 3, "augment": AUGMENT}


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Any:
    pretend_streams(monkeypatch)
    return pretended_loader


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels_last", [False, True])
def test_the_batches_are_those_of_the_cpu(store: Any, pretended: Any, dtype: torch.dtype, channels_last: bool) -> None:
    kwargs = NORMAL | {"dtype": dtype, "channels_last": channels_last}
    ours, expected = pretended(store, 16, **kwargs), lds.Loader(store, 16, **kwargs)
    iterator = iter(ours)
    assert isinstance(iterator._source, cuda.DeviceIterator)
    for number, ((images, labels), (wanted, wanted_labels)) in enumerate(zip(iterator, expected, strict=True), 1):
        assert images.dtype is dtype
        assert images.stride() == wanted.stride()
        torch.testing.assert_close(images, wanted, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-5)
        assert torch.equal(labels, wanted_labels)
        assert ours.state_dict()["position"] == min(16 * number, 100)  # what is ahead does not count
    assert ours.state_dict()["epoch"] == 1


def test_uint8_is_sent_as_it_is(store: Any, pretended: Any) -> None:
    ours = pretended(store, 16, dtype=torch.uint8)
    for (images, _), (wanted, _) in zip(ours, lds.Loader(store, 16, dtype=torch.uint8), strict=True):
        assert torch.equal(images, wanted)


def test_an_error_is_raised_at_its_batch(store: Any, pretended: Any) -> None:
    """The copy of batch k + 1 starts before batch k is delivered; its error must not be raised instead of batch k."""
    loader = pretended(store, 2, order=[1, 2, 3, 4, 500, 5, 6, 7])
    iterator = iter(loader)
    assert [next(iterator)[1].tolist() for _ in range(2)] == [[1, 2], [3, 4]]
    assert loader.state_dict()["position"] == 4
    with pytest.raises(RowIndexError, match="row 500"):
        next(iterator)
    assert next(iterator)[1].tolist() == [6, 7]
    assert loader.state_dict()["position"] == 8
    assert next(iterator, None) is None


def test_a_failed_copy_is_repeated(store: Any, pretended: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = pretended(store, 40, prefetch=0)  # nothing is copied ahead
    iterator = iter(loader)
    assert next(iterator)[1].tolist() == list(range(40))
    copy, errors = cuda.DeviceIterator._copy, [torch.OutOfMemoryError("no room"), KeyboardInterrupt()]

    def fails_twice(self: Any, *batch: Any) -> None:
        if errors:
            raise errors.pop(0)
        copy(self, *batch)

    monkeypatch.setattr(cuda.DeviceIterator, "_copy", fails_twice)
    with pytest.raises(torch.OutOfMemoryError, match=r"make batch_size smaller, or leave more memory free\. no room"):
        next(iterator)
    with pytest.raises(KeyboardInterrupt):
        next(iterator)
    assert loader.state_dict()["position"] == 40
    assert next(iterator)[1].tolist() == list(range(40, 80))
    assert next(iterator)[1].tolist() == list(range(80, 100))


def test_without_memory_for_copies_ahead_batches_come_one_by_one(
    store: Any, pretended: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = cuda.DeviceIterator._copy

    def only_one(self: Any, *batch: Any) -> None:
        if self._sent:
            raise torch.OutOfMemoryError("no room")
        copy(self, *batch)

    monkeypatch.setattr(cuda.DeviceIterator, "_copy", only_one)
    assert [labels.tolist() for _, labels in pretended(store, 40)] == [
        list(range(40)), list(range(40, 80)), list(range(80, 100)),
    ]  # fmt: skip


def test_only_filled_batches_are_copied_ahead(store: Any, pretended: Any) -> None:
    """A batch is not held back until the next one is filled."""
    iterator = iter(pretended(store, 10, prefetch=5))
    source = iterator._source
    type(source._host).has_ready, kept = property(lambda _: False), type(source._host).has_ready
    try:
        next(iterator)
        assert len(source._sent) == 1
    finally:
        type(source._host).has_ready = kept
    while source._host.stats()["ready"] < 2:
        pass
    next(iterator)
    assert 1 < len(source._sent) <= 1 + cuda.AHEAD


def test_slots_are_used_again_and_never_while_a_batch_is_undelivered(store: Any, pretended: Any) -> None:
    iterator = iter(pretended(store, 4, dtype=torch.uint8, shuffle=True))
    source = iterator._source
    for images, _ in iterator:
        memory = [{part.data_ptr() for part in slot.memory} for slot, _ in source._sent]
        assert len(set().union(*memory)) == sum(map(len, memory))
        assert images.data_ptr() not in set().union(*memory)  # a batch may be kept
        assert len(source._slots) <= 1 + cuda.AHEAD


def test_an_iteration_may_leave_the_inference_mode(store: Any, pretended: Any) -> None:
    iterator = iter(pretended(store, 10))
    with torch.inference_mode():
        first = next(iterator)[1]
    assert [labels.tolist() for labels in (first, *(labels for _, labels in iterator))] == [
        list(range(start, start + 10)) for start in range(0, 100, 10)
    ]


def test_an_iterator_that_ends_early_waits_for_its_copies(
    store: Any, pretended: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pinned slots go back to the ring, and would be filled again while the device reads them."""
    waited: list[Any] = []
    monkeypatch.setattr(Done, "query", lambda _: False)
    monkeypatch.setattr(Done, "synchronize", lambda event: waited.append(event))
    iterator = iter(pretended(store, 4))
    next(iterator)
    copying = [event for event, _ in iterator._source._copying]
    assert copying
    assert not waited
    del iterator
    assert waited == copying


def test_a_caller_far_ahead_of_the_device_waits(store: Any, pretended: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise each batch that it takes would need another pinned slot."""
    done: list[Any] = []
    monkeypatch.setattr(Done, "query", lambda event: event in done)
    monkeypatch.setattr(Done, "synchronize", lambda event: done.append(event))
    loader = pretended(store, 2)
    for _ in (iterator := iter(loader)):
        assert len(iterator._source._copying) <= 1 + cuda.MOST_COPYING + cuda.AHEAD
    assert done


@pytest.mark.parametrize("waits", [False, True])
def test_stats_tell_of_the_device(store: Any, pretended: Any, monkeypatch: pytest.MonkeyPatch, waits: bool) -> None:
    class Copying(Done):
        def query(self) -> bool:
            return not waits

    copy = cuda.DeviceIterator._copy

    def still_copying(self: Any, *batch: Any) -> None:
        copy(self, *batch)
        self._sent[-1][0].copied = Copying()

    monkeypatch.setattr(cuda.DeviceIterator, "_copy", still_copying)
    loader = pretended(store, 16, dtype=torch.bfloat16)
    batches = list(loader)
    stats = loader.stats()
    assert stats["copied_bytes"] == sum(images.numel() + labels.nbytes for images, labels in batches)
    assert stats["copy_seconds"] == pytest.approx(0.002 * len(batches))
    assert stats["device_waiting_seconds"] == (pytest.approx(0.002 * len(batches)) if waits else 0)
    assert stats["device_kernel"] == "torch"
    assert stats["batches"] == len(batches)


INTERPRETED = """
import torch
from largeds_native.loading.normalise import DeviceFormat, Normalise
from largeds_native.loading.triton_kernels import launch_normalise

torch.manual_seed(0)
for shape in ((3, 3, 7, 5), (2, 1, 100, 90), (1, 4, 3, 3), (5, 3, 64, 64), (2, 2, 9, 9), (0, 3, 4, 4), (1, 3, 1, 1)):
    for memory_format in (torch.contiguous_format, torch.channels_last):
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            images = torch.randint(0, 256, shape, dtype=torch.uint8).to(memory_format=memory_format)
            scale = (torch.rand(shape[1]) / 50, torch.randn(shape[1]))
            format = DeviceFormat(dtype, *(values.tolist() for values in scale))
            expected = torch.addcmul(*(v.view(1, -1, 1, 1) for v in (scale[1], scale[0])), images.float()).to(dtype)
            one_pass = Normalise(format, torch.device("cpu"))(images)
            assert torch.equal(one_pass, expected) and one_pass.stride() == images.stride()
            out = torch.full_like(expected, torch.nan)
            launch_normalise(images, out, format.multiply, format.add)
            torch.testing.assert_close(out, expected, rtol={torch.bfloat16: 1e-2}.get(dtype, 1e-3), atol=1e-2)
            if dtype is torch.float32:
                torch.testing.assert_close(out, expected, rtol=1e-6, atol=1e-6)
"""


def test_the_kernels_equal_the_plain_formula() -> None:
    """Triton's kernels in its interpreter, which needs no device, and torch's one pass."""
    run_interpreted(INTERPRETED)


def test_a_kernel_that_can_not_be_compiled_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Any] = []

    def fails(*_: Any) -> None:
        tried.append(1)
        raise RuntimeError("no C compiler")

    kernels = SimpleNamespace(launch_normalise=fails)
    monkeypatch.setitem(sys.modules, "largeds_native.loading.triton_kernels", kernels)
    monkeypatch.setattr(torch, "tensor", functools.partial(_on_the_cpu, torch.tensor))
    normalise = Normalise(DeviceFormat(torch.float16, [1.0], [0.5]), torch.device("cuda"))
    for _ in range(2):
        assert normalise(torch.full((2, 1, 2, 2), 3, dtype=torch.uint8)).eq(3.5).all()
    assert normalise.kernel == "torch"
    assert len(tried) == 1


def _on_the_cpu(function: Any, *arguments: Any, device: Any, **options: Any) -> Any:
    return function(*arguments, **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device(store: Any) -> None:
    with pytest.raises(ArgumentError, match="finds no CUDA device"):
        lds.Loader(store, 16, device="cuda")


on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@on_cuda
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("channels_last", [False, True])
def test_on_a_device(store: Any, dtype: torch.dtype, channels_last: bool) -> None:
    kwargs = NORMAL | {"dtype": dtype, "channels_last": channels_last}
    if dtype is torch.uint8:
        kwargs |= {"mean": None, "std": None}
    loader = lds.Loader(store, 16, device="cuda", **kwargs)
    for _ in range(3):
        kept = []
        for images, labels in loader:
            torch.cuda._sleep(1_000_000)  # work on the current stream while the next batch is copied
            kept.append((images, images * 1, labels))
        loader.set_epoch(0)
        for (images, copy, labels), (wanted, wanted_labels) in zip(kept, lds.Loader(store, 16, **kwargs), strict=True):
            assert torch.equal(images, copy)
            assert images.stride() == wanted.stride()
            tolerance = {torch.bfloat16: 1e-2, torch.float16: 1e-3}.get(dtype, 1e-5)
            torch.testing.assert_close(images.cpu(), wanted, rtol=tolerance, atol=1e-5)
            assert torch.equal(labels.cpu(), wanted_labels)
    if dtype is not torch.uint8:
        assert loader.stats()["device_kernel"] == ("triton" if importlib.util.find_spec("triton") else "torch")


@on_cuda
def test_batches_in_a_stream_of_the_user(store: Any) -> None:
    expected = [labels for _, labels in lds.Loader(store, 16, **NORMAL)]
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for (images, labels), wanted in zip(lds.Loader(store, 16, device="cuda", **NORMAL), expected, strict=True):
            torch.cuda._sleep(1_000_000)
            sums = images.sum(dim=(1, 2, 3))
            del images
            assert torch.equal(labels.cpu(), wanted)
            assert sums.isfinite().all()


@on_cuda
def test_an_abandoned_iteration_leaves_the_next_one_right(store: Any) -> None:
    """The slots of an iterator that ends early may still be read when the next one begins."""
    loader = lds.Loader(store, 50, device="cuda", dtype=torch.uint8, seed=3, shuffle=True)
    wanted = next(iter(lds.Loader(store, 50, dtype=torch.uint8, seed=3, shuffle=True)))[0]
    for _ in range(20):
        loader.set_epoch(0)
        torch.cuda._sleep(5_000_000)
        images = next(iter(loader))[0]
        loader.set_epoch(1)
        next(iter(loader))
        assert torch.equal(images.cpu(), wanted)


@on_cuda
@pytest.mark.parametrize("pin_rows", [False, True])
def test_the_device_needs_no_new_memory_from_epoch_to_epoch(store: Any, pin_rows: bool) -> None:
    loader = lds.Loader(store, 16, device="cuda", pin_rows=pin_rows, **NORMAL)
    for epoch in range(8):
        for images, _ in loader:
            images.sum()
        if epoch == 1:
            torch.cuda.synchronize()
            reserved = torch.cuda.memory_reserved()
    assert torch.cuda.memory_reserved() == reserved


@on_cuda
def test_slots_of_a_device_loader_are_pinned(store: Any) -> None:
    loader = lds.Loader(store, 16, device="cuda", dtype=torch.uint8)
    parts, _ = HostIterator(loader._begin_epoch(0), Cursor()).take(NOTHING)
    assert all(part.is_pinned() for part in parts)


@on_cuda
@pytest.mark.parametrize("workers", [0, 2])
def test_a_dataset_in_a_dataloader_that_pins(store: Any, workers: int) -> None:
    context = "spawn" if workers else None
    batches = DataLoader(
        lds.StoreDataset(store), 16, num_workers=workers, pin_memory=True, multiprocessing_context=context
    )
    wanted = lds.Loader(store, 16, dtype=torch.uint8)
    for (images, labels), (expected, expected_labels) in zip(batches, wanted, strict=True):
        assert images.is_pinned()
        torch.testing.assert_close(images.to("cuda", non_blocking=True).cpu(), expected)
        assert torch.equal(labels, expected_labels)
