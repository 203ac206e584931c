"""What a metric has gathered survives a resume within an epoch, whatever the metric is."""

from __future__ import annotations

import warnings
from collections import Counter, deque

import numpy as np
import pytest
import torch
from torch import nn

from largeds_native.trainer import Trainer
from tests.trainer.helpers import Stop, StopAt, data_loader, numbers, small_model


class Accuracy:
    """A user's class without a state_dict."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.correct, self.count = 0, 0

    def update(self, outputs, targets):
        self.correct += int((outputs.argmax(1) == targets).sum())
        self.count += len(targets)

    def compute(self):
        return self.correct / max(self.count, 1)


class InContainers(Accuracy):
    def reset(self):
        self.seen, self.hits, self.parts = Counter(), np.zeros(3), []

    def update(self, outputs, targets):
        self.seen.update(targets.tolist())
        self.hits += np.bincount(targets[outputs.argmax(1) == targets].numpy(), minlength=3)
        self.parts.append(outputs.mean())

    def compute(self):
        self.seen["x"] += 1  # a Counter stays one
        return self.hits.sum() / self.seen.total() + float(torch.stack(self.parts).sum())


class WithState(Accuracy):
    def __init__(self):
        self.object = object()
        super().__init__()

    def state_dict(self):
        return {"all": (self.correct, self.count)}

    def load_state_dict(self, state):
        self.correct, self.count = state["all"]


class Nested(Accuracy):
    def __init__(self):
        self.inner = Accuracy()

    def reset(self):
        self.inner.reset()

    def update(self, outputs, targets):
        self.inner.update(outputs, targets)

    def compute(self):
        return self.inner.compute()


class AsModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("sums", torch.zeros(2))

    def reset(self):
        self.sums.zero_()

    def update(self, outputs, targets):
        self.sums += torch.stack([(outputs.argmax(1) == targets).sum(), torch.tensor(len(targets))])

    def compute(self):
        return self.sums[0] / self.sums[1]


class Last(Accuracy):
    """It can't be saved."""

    def reset(self):
        self.values = deque()

    def update(self, outputs, targets):
        self.values.append(float((outputs.argmax(1) == targets).double().mean()))

    def compute(self):
        return len(self.values)


def of_torchmetrics():
    metrics = pytest.importorskip("torchmetrics")
    accuracy = pytest.importorskip("torchmetrics.classification").MulticlassAccuracy
    return {
        "plain": accuracy(num_classes=3),
        "sum": accuracy(num_classes=3) + accuracy(num_classes=3, average="micro"),
        "extremes": metrics.MinMaxMetric(accuracy(num_classes=3)),
        "curve": pytest.importorskip("torchmetrics.classification").MulticlassAUROC(num_classes=3),
    }


def own():
    made = {kind.__name__: kind() for kind in (Accuracy, InContainers, WithState, Nested, AsModule)}
    return made | {"function": lambda outputs, targets: outputs.mean()}


def run(folder, metrics, callbacks=(), epochs=2):
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    options = {"checkpoint_dir": folder, "checkpoint_every": 1, "progress": False, "callbacks": callbacks}
    trainer = Trainer(model, optimizer, nn.CrossEntropyLoss(), metrics=metrics, **options)
    trainer.fit(data_loader(), epochs, data_loader(16))
    return [{k: v for k, v in logs.items() if k not in ("val_max", "val_min")} for logs in numbers(trainer.history)]


@pytest.mark.parametrize("metrics", [own, of_torchmetrics])
@pytest.mark.parametrize("stop", [3, 8])
def test_metrics_go_on_within_an_epoch(tmp_path, metrics, stop):
    history = run(tmp_path / "whole", metrics())
    with pytest.raises(Stop):
        run(tmp_path / "cut", metrics(), [StopAt(stop)])
    assert run(tmp_path / "cut", metrics()) == history


def test_a_metric_that_cannot_be_saved_is_named_once(tmp_path):
    with pytest.raises(Stop):
        run(tmp_path, {"last": Last(), "accuracy": Accuracy()}, [StopAt(3)])
    with pytest.warns(UserWarning, match=r"has not all of train_last up to this step") as said:
        history = run(tmp_path, {"last": Last(), "accuracy": Accuracy()})
    assert len(said) == 1
    assert [logs["train_last"] for logs in history] == [3, 5]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(tmp_path, {"last": Last(), "accuracy": Accuracy()}, epochs=3)  # from an epoch's end: nothing is lost


def test_settings_are_those_of_the_resumed_run(tmp_path):
    class Above(Accuracy):
        def __init__(self, threshold):
            self.threshold = threshold
            super().__init__()

        def compute(self):
            return self.threshold

    with pytest.raises(Stop):
        run(tmp_path, {"above": Above(0.5)}, [StopAt(3)])
    assert run(tmp_path, {"above": Above(0.7)})[0]["train_above"] == 0.7
