"""Where the labels of a Loader are known not to be `ignore_index`, a micro-batch's weight is counted on the host."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import largeds_native as lds
from largeds_native.trainer import Callback, Trainer, readback
from largeds_native.trainer.members import no_label_is
from tests.builders.stores import make_random_store
from tests.trainer.helpers import numbers, parameters_of

N = 30


def make_store(folder: Path, labels: Any) -> Any:
    images = np.random.default_rng(0).integers(0, 256, (N, 3, 4, 4), np.uint8)
    return lds.pack((images, labels), folder / "s.lds", resize=None, crop=None, progress=False, shard_bytes=12 * 48)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU counts as a device whose numbers are read later."""
    monkeypatch.setattr(readback, "DEFERRED", frozenset({"cpu"}))


def make_trainer(loss: nn.Module, callbacks: Any = ()) -> Trainer:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 4))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    return Trainer(model, optimizer, loss, accumulate=2, micro_batch=3, progress=False, callbacks=callbacks)


class Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: collections.Counter[str] = collections.Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("ignored", [-100, 2])
@pytest.mark.parametrize("class_weight", [None, torch.tensor([0.5, 1.0, 2.0, 1.0])])
@pytest.mark.parametrize("none", [False, True], ids=["some ignored", "none ignored"])
def test_the_same_as_where_they_are_not_known(
    later: Any, tmp_path: Path, ignored: int, class_weight: Any, none: bool
) -> None:
    """Of a list of batches, whose labels nobody knows, each micro-batch's are looked at."""
    labels = np.arange(N) % 4
    labels[labels == ignored] = 3
    if not none:
        labels[[1, 2, 3, 20]] = ignored
    store = make_store(tmp_path, labels)
    runs = []
    for loader in (lds.Loader(store, 8), list(lds.Loader(store, 8))):
        trainer = make_trainer(nn.CrossEntropyLoss(class_weight, ignore_index=ignored))
        history = trainer.fit(loader, epochs=2, val_loader=loader)
        runs.append((numbers(history), parameters_of(trainer.model)))
    assert runs[0][0] == runs[1][0]
    assert torch.equal(runs[0][1], runs[1][1])


class Validates(Callback):
    """Evaluates on other data in the middle of each epoch."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def on_step(self, trainer: Any, result: Any) -> None:
        trainer.evaluate(self.loader)


def test_what_is_known_of_one_loader_does_not_hold_for_another(later: Any, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "some").mkdir()
    whole = make_store(tmp_path / "whole", np.arange(N) % 4)
    some = make_store(tmp_path / "some", np.where(np.arange(N) % 5 == 0, -100, np.arange(N) % 4))
    expected = make_trainer(nn.CrossEntropyLoss())
    expected.fit(lds.Loader(some, 8), epochs=1)
    trainer = make_trainer(nn.CrossEntropyLoss(), [Validates(lds.Loader(whole, 8))])
    trainer.fit(lds.Loader(some, 8), epochs=1)
    assert torch.equal(parameters_of(trainer.model), parameters_of(expected.model))


def test_the_device_is_not_asked(later: Any, tmp_path: Path) -> None:
    store = make_store(tmp_path, np.arange(N) % 4)
    counts = []
    for loader in (lds.Loader(store, 6), list(lds.Loader(store, 6))):
        with Counter() as counter:
            make_trainer(nn.CrossEntropyLoss()).fit(loader, epochs=1)
        counts.append(counter.calls)
    assert counts[1]["ne"] > 0
    assert counts[0]["ne"] == 0


class Masking(lds.Loader):
    """Leaves out every other sample."""

    def __iter__(self) -> Any:
        for images, labels in super().__iter__():
            yield images, labels.clone().index_fill_(0, torch.arange(0, len(labels), 2), -100)


def test_on_the_cpu_they_are_counted(tmp_path: Path) -> None:
    assert not no_label_is(-100, lds.Loader(make_store(tmp_path, np.arange(N) % 4), 8))


def test_labels_that_may_be_ignored(later: Any, tmp_path: Path) -> None:
    store = make_store(tmp_path, np.arange(N) % 4)
    loader = lds.Loader(store, 8)
    assert no_label_is(-100, loader)
    assert no_label_is(4, loader)
    assert not no_label_is(3, loader)
    assert no_label_is(-100, lds.Loader(lds.concat([store, store]), 8))
    assert not no_label_is(3, lds.Loader(lds.concat([store, store]), 8))
    assert not no_label_is(-100, list(loader))
    assert not no_label_is(-100, Masking(store, 8))
    assert not no_label_is(-100, lds.Loader(store, 8, fields=("label", "label")))
    scores = make_random_store(tmp_path / "f.lds", fields={"label": np.zeros(7, np.float32)})
    assert not no_label_is(-100, lds.Loader(scores, 8))
