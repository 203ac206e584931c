"""Loading to a CUDA device: on a real one if available, and its logic everywhere, with the CPU in its place."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import largeds_native as lds
from largeds_native.errors import ArgumentError, RowIndexError
from largeds_native.loading import cuda
from tests.loading.epochs import MEAN, STD

AUGMENT = lds.Augment(random_crop=6, flip=0.5)
NORMAL: dict[str, Any] = {"shuffle": True, "mean": MEAN, "std": STD, "seed": 3, "augment": AUGMENT}


class Done:
    """A stream or an event whose work is done."""

    def __init__(self, *_: Any) -> None:
        pass

    def query(self) -> bool:
        return True

    def record(self, *_: Any) -> None:
        pass

    wait_event = wait_stream = record

    def __enter__(self) -> Done:
        return self

    def __exit__(self, *_: Any) -> None:
        pass


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes Loader(device="cpu") behave as for a CUDA device: it copies uint8 and normalises there."""
    for name in ("Stream", "Event"):
        monkeypatch.setattr(torch.cuda, name, Done)
    monkeypatch.setattr(torch.cuda, "current_stream", Done)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(torch.Tensor, "record_stream", Done.record)

    def loader(store: Any, size: int, *, dtype: torch.dtype = torch.float32, **kwargs: Any) -> Any:
        made = lds.Loader(store, size, dtype=dtype, **kwargs)
        sent = lds.Loader(
            store, size, dtype=torch.uint8, **{k: v for k, v in kwargs.items() if k not in ("mean", "std")}
        )
        if dtype is not torch.uint8:
            format = cuda.DeviceFormat(made._host_format.dtype, *made._host_format.scale)
            sent._device_format = made._device_format or format  # with colours, the CPU's batches are uint8 too
        sent._source = lambda host, cursor: cuda.DeviceIterator(
            host, cursor, sent.device, sent._device_format, sent._coloring
        )
        return sent

    return loader


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
    loader = pretended(store, 40)
    iterator = iter(loader)
    assert next(iterator)[1].tolist() == list(range(40))
    copy, errors = cuda.DeviceIterator._copy, [torch.OutOfMemoryError("no room"), KeyboardInterrupt()]

    def fails_twice(self: Any, *batch: Any) -> None:
        if errors:
            raise errors.pop(0)
        copy(self, *batch)

    monkeypatch.setattr(cuda.DeviceIterator, "_copy", fails_twice)
    assert next(iterator)[1].tolist() == list(range(40, 80))
    with pytest.raises(torch.OutOfMemoryError):
        next(iterator)
    with pytest.raises(KeyboardInterrupt):
        next(iterator)
    assert loader.state_dict()["position"] == 80
    assert next(iterator)[1].tolist() == list(range(80, 100))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device(store: Any) -> None:
    with pytest.raises(ArgumentError, match="finds no CUDA device"):
        lds.Loader(store, 16, device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_device(store: Any) -> None:
    loader = lds.Loader(store, 16, device="cuda", **NORMAL)
    for _ in range(3):
        kept = []
        for images, labels in loader:
            torch.cuda._sleep(1_000_000)  # work on the current stream while the next batch is copied
            kept.append((images * 1, labels))
        loader.set_epoch(0)
        expected = lds.Loader(store, 16, **NORMAL)
        for (images, labels), (wanted, wanted_labels) in zip(kept, expected, strict=True):
            torch.testing.assert_close(images.cpu(), wanted, rtol=1e-5, atol=1e-5)
            assert torch.equal(labels.cpu(), wanted_labels)
