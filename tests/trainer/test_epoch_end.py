"""Whatever fails after an epoch's training: it is found before the first step, or loses nothing of the training."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import torchmetrics
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset
from torchvision.transforms import Compose

import largeds_native as lds
from largeds_native.errors import ArgumentError
from largeds_native.trainer import EMA, Callback, EarlyStopping, Trainer
from largeds_native.trainer.random_state import RandomState
from tests.builders.stores import make_random_store
from tests.trainer.helpers import data_loader, numbers, parameters_of, samples, small_trainer

make = small_trainer


def accuracy(outputs, targets):
    return (outputs.argmax(1) == targets).double().mean()


class FailOnce(Callback):
    """At the end of the second epoch, in one process."""

    def __init__(self, moment: str) -> None:
        self.moment = moment

    def on_evaluate_end(self, trainer):
        self._fail("validation", trainer)

    def on_epoch_end(self, trainer, logs):
        self._fail("callback", trainer)

    def _fail(self, moment, trainer):
        if moment == self.moment and trainer.epoch == 1:
            self.moment = ""
            raise OSError("injected")


@pytest.mark.parametrize("moment", ["validation", "callback"])
@pytest.mark.parametrize("kind", ["loader", "DataLoader"])
def test_a_failure_after_the_training_loses_nothing_of_it(tmp_path, kind, moment):
    def loaders():
        if kind == "DataLoader":
            return data_loader(shuffle=True), data_loader(16, shuffle=True)
        store = lds.open(tmp_path / "store")
        return lds.Loader(store, 8, shuffle=True), lds.Loader(store, 16, shuffle=True)

    def trainer_in(folder, callbacks=()):
        def plateau(optimizer):
            return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.5)

        parts = [EMA(0.9), EarlyStopping(patience=50), *callbacks]
        trainer = make(tmp_path / folder, parts, plateau, metrics={"accuracy": accuracy}, keep_last=1)
        if kind == "loader":
            trainer.model.insert(0, nn.Flatten())
            trainer.model.insert(1, nn.Linear(60, 6).requires_grad_(False))
        return trainer

    if kind == "loader":
        make_random_store(tmp_path / "store", n=40)
    whole = trainer_in("whole")
    history = whole.fit(loaders()[0], 3, loaders()[1])
    cut = trainer_in("cut", [FailOnce(moment)])
    with pytest.raises(OSError, match="injected"):
        cut.fit(loaders()[0], 3, loaders()[1])
    steps = []

    class Count(Callback):
        def on_step(self, trainer, result):
            steps.append(trainer.step)

    resumed = trainer_in("cut", [Count()])
    torch.manual_seed(99)
    assert numbers(resumed.fit(loaders()[0], 3, loaders()[1])) == numbers(history)
    assert torch.equal(parameters_of(resumed.model), parameters_of(whole.model))
    per_epoch = whole.step // 3
    assert steps == list(range(2 * per_epoch + 1, 3 * per_epoch + 1))  # the second epoch's training was not repeated
    assert resumed.best.value == whole.best.value
    best = [
        torch.load(tmp_path / name / "best.pt", weights_only=True)["progress"]["epoch"] for name in ("whole", "cut")
    ]
    assert best[0] == best[1]


def test_a_second_fit_in_this_process_goes_on_after_the_failure():
    trainer = make(None, [FailOnce("callback")])
    loader = data_loader()
    with pytest.raises(OSError, match="injected"):
        trainer.fit(loader, 2)
    trainer.fit(loader, 2)
    whole = make()
    whole.fit(data_loader(), 2)
    assert trainer.step == whole.step == 10
    assert numbers(trainer.history) == numbers(whole.history)


def plateau(optimizer):
    return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)


@pytest.mark.parametrize(
    ("options", "validated", "message"),
    [
        ({"monitor": "val_acuracy"}, True, r"monitor: no 'val_acuracy' among .*did you mean 'val_accuracy'"),
        ({"monitor": "val_accuracy"}, False, r"monitor: no 'val_accuracy' .*need fit\(..., val_loader"),
        ({"callbacks": [EarlyStopping()]}, False, r"EarlyStopping: no 'val_loss' .*need fit\(..., val_loader"),
        ({"callbacks": [EarlyStopping("val_f1")]}, True, "EarlyStopping: no 'val_f1' among"),
        ({"scheduler": plateau}, False, r"ReduceLROnPlateau: no 'val_loss' .*need fit\(..., val_loader"),
    ],
)
def test_names_are_checked_before_the_first_step(options, validated, message):
    trainer = make(metrics={"accuracy": accuracy}, **options)
    with pytest.raises(ArgumentError, match=message):
        trainer.fit(data_loader(), 1, data_loader(16) if validated else None)
    assert trainer.step == 0


def test_names_that_exist_are_taken():
    for name in ("train_loss", "lr", "val_loss", "val_accuracy", "train_accuracy"):
        make(metrics={"accuracy": accuracy}, monitor=name).fit(data_loader(), 1, data_loader(16))
    collection = torchmetrics.MetricCollection({"top": torchmetrics.classification.MulticlassAccuracy(3)})
    make(metrics={"all": collection}, monitor="val_top").fit(data_loader(), 1, data_loader(16))


def failing(outputs, targets):
    raise RuntimeError("injected")


def several(outputs, targets):
    return torch.zeros(3)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (failing, "metric 'bad' failed: RuntimeError: injected"),
        (several, r"metric 'bad' failed: .*one number, found a tensor of shape \(3,\)"),
        (torchmetrics.classification.MulticlassAccuracy(3, average=None), r"metric 'bad' .* shape \(3,\): reduce"),
        (torchmetrics.classification.BinaryAccuracy(), "metric 'bad' failed"),
        (lambda outputs, targets: {"a": 1.0}, "metric 'bad' failed: TypeError"),
    ],
)
def test_a_metric_that_fails_is_named_before_the_first_step(metric, message):
    trainer = make(metrics={"good": accuracy, "bad": metric})
    with pytest.raises(ArgumentError, match=message):
        trainer.fit(data_loader(), 1, data_loader(16))
    assert trainer.step == 0


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_metric_collection_gives_its_names(tmp_path, wrapped):
    kinds = torchmetrics.classification
    options = {"num_classes": 3, "average": "micro"}
    parts = {"accuracy": kinds.MulticlassAccuracy(**options), "precision": kinds.MulticlassPrecision(**options)}
    collection = torchmetrics.MetricCollection(parts)
    metrics = {"all": collection, "plain": accuracy} if wrapped else collection
    (logs,) = make(tmp_path, metrics=metrics, checkpoint_every=1).fit(data_loader(), 1, data_loader(16))
    for name in ("train_accuracy", "train_precision", "val_accuracy", "val_precision"):
        assert name in logs
    if wrapped:
        assert logs["val_accuracy"] == pytest.approx(logs["val_plain"])
        assert logs["train_accuracy"] == pytest.approx(logs["train_plain"])
    twice = {"a": collection, "accuracy": accuracy}
    with pytest.raises(ArgumentError, match="two metrics have the name 'accuracy'"):
        make(metrics=twice)


def test_a_metric_of_named_values():
    metric = torchmetrics.ClasswiseWrapper(torchmetrics.classification.MulticlassAccuracy(3, average=None))
    (logs,) = make(metrics={"by class": metric}, monitor="val_multiclassaccuracy_2").fit(
        data_loader(), 1, data_loader(16)
    )
    assert {"train_multiclassaccuracy_0", "val_multiclassaccuracy_2"} <= set(logs)


def test_a_metric_that_one_batch_is_too_small_for():
    metric = torchmetrics.R2Score()
    model = nn.Linear(6, 1)
    trainer = Trainer(
        model, torch.optim.SGD(model.parameters(), 0.1), nn.MSELoss(), metrics={"r2": metric}, progress=False
    )
    loader = [(torch.randn(1, 6), torch.randn(1, 1)) for _ in range(3)]
    assert "val_r2" in trainer.fit(loader, 1, loader)[0]


def test_a_bad_validation_batch_is_found_before_the_first_step():
    inputs, targets = samples(16)
    for bad in ([(inputs, targets[:3])], [(inputs[:, :4], targets)], DataLoader(TensorDataset(inputs), 4)):
        trainer = make()
        with pytest.raises((ArgumentError, RuntimeError)):
            trainer.fit(data_loader(), 1, bad)
        assert trainer.step == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_the_trial_changes_nothing(monkeypatch, workers):
    """Random states, BatchNorm, the loaders' positions and generators, the metrics."""
    dataset = TensorDataset(*samples(40))

    def run():
        generator = torch.Generator().manual_seed(4)
        trainer = make(metrics={"accuracy": accuracy})
        validation = DataLoader(dataset, 8, shuffle=True, generator=generator, num_workers=workers)
        drawn = []
        trainer.callbacks.append(Callback())
        trainer.callbacks[-1].on_fit_start = lambda trainer: drawn.extend(
            [torch.rand(()).item(), random.random(), np.random.rand(), generator.get_state().sum().item()]  # noqa: NPY002
        )
        history = trainer.fit(data_loader(shuffle=True), 1, validation)
        return numbers(history), parameters_of(trainer.model), drawn[:1] + drawn[3:], RandomState.now().torch_cpu

    found = run()
    monkeypatch.setattr("largeds_native.trainer.trainer.try_validation", lambda *_: None)
    expected = run()
    assert found[0] == expected[0]
    assert torch.equal(found[1], expected[1])
    assert found[2] == expected[2]
    assert torch.equal(found[3], expected[3])


class Noisy(TensorDataset):
    """Each item draws from the dataset's own generators, or from those of its transform."""

    def __init__(self) -> None:
        super().__init__(*samples(16))
        self.numpy, self.old = np.random.default_rng(1), np.random.RandomState(2)
        self.python, self.torch = random.Random(3), torch.Generator().manual_seed(4)
        self.transform = Compose([Shift()])

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        noise = self.numpy.random() + self.old.random_sample() + self.python.random()
        return self.transform(image + noise + torch.rand((), generator=self.torch)), label


class Shift:
    def __init__(self) -> None:
        self.rng = np.random.Generator(np.random.MT19937(5))

    def __call__(self, image):
        return image + self.rng.random()


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_trial_draws_nothing_from_a_dataset_s_own_generators(monkeypatch, wrapped):
    def run():
        dataset = ConcatDataset([Subset(Noisy(), range(12)), Noisy()]) if wrapped else Noisy()
        return numbers(make().fit(data_loader(), 2, DataLoader(dataset, 4)))

    found = run()
    monkeypatch.setattr("largeds_native.trainer.trainer.try_validation", lambda *_: None)
    assert found == run()


def test_the_trial_leaves_a_loader_where_it_stands(tmp_path):
    store = lds.open(make_random_store(tmp_path / "store", n=40).path)
    loader = lds.Loader(store, 4, shuffle=True)
    model = nn.Sequential(nn.Flatten(), nn.Linear(60, 2))
    trainer = Trainer(model, torch.optim.SGD(model.parameters(), 0.0), nn.CrossEntropyLoss(), progress=False)
    before, seen = loader.state_dict(), []
    trainer.callbacks.append(Callback())
    trainer.callbacks[-1].on_fit_start = lambda trainer: seen.append(loader.state_dict())
    trainer.fit(loader, 1, loader)
    assert seen == [before]


def test_a_stream_is_not_tried():
    """An iterator of its own gives each batch once: all are evaluated."""
    batches = iter(list(data_loader(16)))
    seen = []

    def count(outputs, targets):
        seen.append(len(targets))
        return 0.0

    class Once:
        def __iter__(self):
            return batches

    make(metrics={"count": count}).fit([], 0, Once())
    trainer = make(metrics={"count": count})
    trainer.train_metrics.metrics.clear()
    trainer.fit(data_loader(), 1, Once())
    assert sum(seen) == 16


def test_a_first_batch_of_validation_without_a_target_is_not_called_empty():
    inputs, targets = samples(16)
    ignored = torch.full_like(targets, -100)
    (logs,) = make().fit(data_loader(), 1, [(inputs, ignored), (inputs, targets)])
    assert np.isfinite(logs["val_loss"])
    assert np.isnan(make().evaluate([(inputs, ignored)])["loss"])
