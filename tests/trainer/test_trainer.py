"""The training loop: logs, validation, schedulers, callbacks, precision, and invalid arguments."""

from __future__ import annotations

import copy
import csv
import math

import pytest
import torch
import torchmetrics
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, TensorDataset

from largeds_native.errors import ArgumentError, NonFiniteError
from largeds_native.trainer import EMA, Callback, CSVLogger, EarlyStopping, Freeze, TensorBoardLogger, Trainer
from tests.trainer.helpers import data_loader, parameters_of, samples, small_model


def make(model=None, lr=0.1, **options):
    model = small_model() if model is None else model
    options.setdefault("progress", False)
    return Trainer(model, torch.optim.SGD(model.parameters(), lr, momentum=0.9), nn.CrossEntropyLoss(), **options)


def accuracy(outputs, targets):
    return (outputs.argmax(1) == targets).double().mean()


def test_a_fit_is_the_plain_loop():
    trainer, twin = make(), small_model()
    history = trainer.fit(data_loader(), 2)
    optimizer, losses = torch.optim.SGD(twin.parameters(), 0.1, momentum=0.9), []
    for _ in range(2):
        for inputs, targets in data_loader():
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(twin(inputs), targets)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert torch.equal(parameters_of(trainer.model), parameters_of(twin))
    assert history[1]["train_loss"] == pytest.approx(sum(losses[5:]) / 5)
    assert (trainer.epoch, trainer.step) == (2, 10)


def test_evaluate_is_over_all_samples_and_does_not_change_the_model():
    model = small_model(norm=True, dropout=0.5)
    trainer = make(model, micro_batch=3, metrics={"accuracy": accuracy})
    loader = data_loader(21, 8)
    before = copy.deepcopy(model.state_dict())
    numbers = trainer.evaluate(loader)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    inputs, targets = samples(21)
    with torch.no_grad():
        outputs = model.eval()(inputs)
    assert numbers["loss"] == pytest.approx(nn.functional.cross_entropy(outputs, targets).item(), rel=1e-6)
    assert numbers["accuracy"] == pytest.approx(accuracy(outputs, targets).item())


def test_torchmetrics_are_taken_for_training_and_validation():
    metric = torchmetrics.classification.MulticlassAccuracy(num_classes=3, average="micro")
    trainer = make(metrics={"accuracy": metric, "plain": accuracy}, accumulate=2, micro_batch=3)
    (logs,) = trainer.fit(data_loader(20, 8), 1, data_loader(10, 4))
    assert logs["train_accuracy"] == pytest.approx(logs["train_plain"])
    assert logs["val_accuracy"] == pytest.approx(logs["val_plain"])
    assert metric._update_count == 0  # the user's own object is not touched


@pytest.mark.parametrize("by", ["epoch", "step"])
def test_scheduler(by):
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.1)
    trainer = Trainer(
        model, optimizer, nn.CrossEntropyLoss(), scheduler=scheduler, scheduler_by=by, accumulate=2, progress=False
    )
    trainer.fit(data_loader(32, 8), 3)
    steps = 3 if by == "epoch" else 6
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 ** (steps // 2))


def test_plateau_scheduler_sees_the_monitored_number():
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), 0.0001)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=1.0)
    Trainer(model, optimizer, nn.CrossEntropyLoss(), scheduler=scheduler, progress=False).fit(
        data_loader(), 3, data_loader()
    )
    assert optimizer.param_groups[0]["lr"] < 0.0001


def test_a_loader_of_unknown_length_ends_its_last_group_at_the_end_of_data():
    class Stream:
        def __iter__(self):
            return iter(list(data_loader(40, 8)))

    trainer, twin = make(accumulate=3), make(accumulate=3)
    trainer.fit(Stream(), 2)
    twin.fit(data_loader(), 2)
    assert trainer.step == 4
    assert torch.equal(parameters_of(trainer.model), parameters_of(twin.model))


def test_ema():
    ema = EMA(decay=0.9)
    trainer = make(callbacks=[ema])
    expected = parameters_of(trainer.model).clone()

    class Follow(Callback):
        def on_step(self, trainer, result):
            expected.mul_(0.9).add_(parameters_of(trainer.model), alpha=0.1)

    trainer.callbacks.append(Follow())
    (logs,) = trainer.fit(data_loader(), 1, data_loader())
    own = parameters_of(trainer.model).clone()
    twin = small_model()
    ema.copy_to(twin)
    torch.testing.assert_close(parameters_of(twin), expected)
    assert not torch.equal(own, expected)
    assert logs["val_loss"] == pytest.approx(make(twin).evaluate(data_loader())["loss"])


def test_early_stopping():
    trainer = make(lr=1e-9, callbacks=[EarlyStopping(patience=2, min_delta=0.1)])
    assert len(trainer.fit(data_loader(), 10, data_loader())) == 3
    with pytest.raises(ArgumentError, match="no 'val_loss'"):
        make(callbacks=[EarlyStopping()]).fit(data_loader(), 1)


def test_frozen_layers_do_not_change():
    model = small_model(norm=True)
    frozen = copy.deepcopy([model[0].state_dict(), model[1].state_dict()])
    make(model, callbacks=[Freeze("0", "1")]).fit(data_loader(), 1)
    for module, before in zip(model, frozen, strict=False):
        assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())
    make(model, callbacks=[Freeze("0", "1", until_epoch=1)]).fit(data_loader(), 2)
    assert not torch.equal(frozen[0]["weight"], model[0].weight)


def test_csv_and_tensorboard(tmp_path):
    trainer = make(callbacks=[CSVLogger(tmp_path / "log.csv"), TensorBoardLogger(tmp_path / "board", every=1)])
    history = trainer.fit(data_loader(), 2, data_loader())
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val_loss"]) for row in rows] == [logs["val_loss"] for logs in history]
    assert list((tmp_path / "board").iterdir())


def test_progress_prints_one_line_an_epoch_off_a_terminal(capfd):
    make(progress=True).fit(data_loader(), 2, data_loader())
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(word in lines[0] for word in ("epoch 1", "train_loss", "val_loss", "images_per_s", "data"))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_autocast_trains_close_to_float32(precision):
    trainer, twin = make(precision=precision, accumulate=2, clip_grad_norm=1.0), make(accumulate=2, clip_grad_norm=1.0)
    trainer.fit(data_loader(), 3)
    twin.fit(data_loader(), 3)
    torch.testing.assert_close(parameters_of(trainer.model), parameters_of(twin.model), rtol=0.1, atol=0.02)


def test_float16_overflow_skips_the_step_and_lowers_the_scale():
    trainer = make(precision="fp16")
    scaler = trainer.precision.scaler
    scaler._init_scale = 2.0**40
    before = parameters_of(trainer.model).clone()
    trainer.fit(data_loader(8, 8), 1)
    assert trainer.skipped == 1
    assert scaler.get_scale() == 2.0**39
    assert torch.equal(before, parameters_of(trainer.model))


def test_a_nonfinite_loss_is_raised_or_skipped():
    inputs, targets = samples(16)
    inputs[9] = math.nan
    loader = [(inputs[:8], targets[:8]), (inputs[8:], targets[8:])]
    with pytest.raises(NonFiniteError, match="samples 8 to 15"):
        make().fit(loader, 1)
    trainer = make(on_nonfinite="skip")
    (logs,) = trainer.fit(loader, 1)
    assert trainer.skipped == 1
    assert math.isfinite(logs["train_loss"])


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "fp8"},
        {"micro_batch": "max"},
        {"scheduler_by": "day"},
        {"monitor_mode": "least"},
        {"checkpoint_every": 0},
        {"accumulate": 0},
        {"on_nonfinite": "ignore"},
        {"metrics": {"wrong": 3}},
        {"device": "meta"},
    ],
)
def test_bad_arguments(options):
    with pytest.raises(ArgumentError, match="expected"):
        make(**options)


def test_bad_input():
    with pytest.raises(ArgumentError, match="evaluate on is empty"):
        make().evaluate([])
    with pytest.raises(ArgumentError, match="training loader is empty"):
        make().fit([], 1)
    with pytest.raises(ArgumentError, match="evaluate on is empty"):
        make().fit(data_loader(), 1, [])
    with pytest.raises(ArgumentError, match=r"expected the loader to yield \(inputs, targets\), found Tensor"):
        make().fit([torch.zeros(3, 6)], 1)
    with pytest.raises(ArgumentError, match="same first dimension"):
        make().fit([(torch.zeros(3, 6), torch.zeros(2, dtype=torch.long))], 1)
    with pytest.raises(ArgumentError, match="none of the model's parameters"):
        Trainer(small_model(), torch.optim.SGD(small_model().parameters(), 0.1), nn.CrossEntropyLoss())
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(ArgumentError, match="reduction"):
        Trainer(model, optimizer, nn.CrossEntropyLoss(reduction="none"))


@pytest.mark.parametrize("nested", [False, True])
def test_each_epoch_of_a_distributed_sampler_has_its_own_order(nested):
    """Trainer calls its set_epoch, also where a BatchSampler holds it; in a resume too, with the epoch's number."""
    dataset = TensorDataset(*samples(24))

    def epochs(start: int) -> list[list[float]]:
        sampler, seen = DistributedSampler(dataset, 1, 0), []
        batches = BatchSampler(sampler, 4, drop_last=False)
        loader = DataLoader(dataset, batch_sampler=batches) if nested else DataLoader(dataset, 4, sampler=sampler)
        trainer = make(metrics={"first": lambda outputs, targets: seen.append(outputs.sum().item()) or 0.0}, lr=0.0)
        trainer._progress.epoch = start
        trainer.fit(loader, 3)
        return [seen[i : i + 6] for i in range(0, len(seen), 6)]

    whole = epochs(0)
    assert len(whole) == 3
    assert whole[0] != whole[1] != whole[2] != whole[0]
    assert epochs(2) == whole[2:]
