"""Other things that must survive a resume: schedulers, EMA, early stopping, loaders of unknown length, odd state."""

from __future__ import annotations

import copy
import os
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

from largeds_native.errors import ArgumentError, StateError
from largeds_native.trainer import EMA, Callback, EarlyStopping, Freeze
from tests.trainer.helpers import Stop, StopAt, data_loader, numbers, parameters_of, samples, small_trainer

EPOCHS, STEPS = 4, 3  # five batches, two to a step


make = partial(small_trainer, accumulate=2, checkpoint_every=1)


def assert_resumes(tmp_path, make_one, loader=data_loader, stops=(1, 3, 4, 8), epochs=EPOCHS):
    """A stopped and resumed run ends like one that was not stopped."""
    whole = make_one(tmp_path / "whole")
    history = whole.fit(loader(), epochs, data_loader(16))
    for stop in stops:
        trainer = make_one(tmp_path / f"cut-{stop}")
        trainer.callbacks.append(StopAt(stop))
        with pytest.raises(Stop):
            trainer.fit(loader(), epochs, data_loader(16))
        torch.manual_seed(99)
        resumed = make_one(tmp_path / f"cut-{stop}")
        assert numbers(resumed.fit(loader(), epochs, data_loader(16))) == numbers(history), stop
        assert torch.equal(parameters_of(resumed.model), parameters_of(whole.model)), stop
    return whole


SCHEDULERS = {
    "step": partial(lr_scheduler.StepLR, step_size=2),
    "several milestones": partial(lr_scheduler.MultiStepLR, milestones=[1, 3]),
    "lambda": partial(lr_scheduler.LambdaLR, lr_lambda=lambda n: 0.9**n),
    "one cycle": partial(lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=EPOCHS * STEPS),
    "warm restarts": partial(lr_scheduler.CosineAnnealingWarmRestarts, T_0=3),
    "cyclic": partial(lr_scheduler.CyclicLR, base_lr=0.001, max_lr=0.1, cycle_momentum=False),
    "plateau": partial(lr_scheduler.ReduceLROnPlateau, patience=0, threshold=0.05),
    "warm-up": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer,
        [lr_scheduler.LinearLR(optimizer, 0.1, total_iters=2), lr_scheduler.CosineAnnealingLR(optimizer, 10)],
        milestones=[2],
    ),
    "chained": lambda optimizer: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(optimizer, 0.5, 2), lr_scheduler.ExponentialLR(optimizer, 0.9)]
    ),
}


@pytest.mark.parametrize("by", ["epoch", "step"])
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler:UserWarning")  # torch 2.4's own SequentialLR
def test_scheduler(tmp_path, name, by):
    if (name, by) == ("plateau", "step"):
        with pytest.raises(ArgumentError, match="'epoch' with ReduceLROnPlateau"):
            make(None, scheduler=SCHEDULERS[name], scheduler_by=by)
        return
    assert_resumes(tmp_path, partial(make, scheduler=SCHEDULERS[name], scheduler_by=by), stops=(2, 7))


def test_plateau_without_its_number():
    with pytest.raises(ArgumentError, match="ReduceLROnPlateau: no 'val_loss' among"):
        make(None, scheduler=SCHEDULERS["plateau"]).fit(data_loader(), 1)


@pytest.mark.parametrize("every", [1, 2])
def test_ema_early_stopping_and_frozen_layers(tmp_path, every):
    def make_one(folder):
        stopping = EarlyStopping("val_loss", patience=2, min_delta=0.005)
        return make(folder, [EMA(0.5, every=every), stopping, Freeze("0", "1", until_epoch=2)])

    whole = assert_resumes(tmp_path, make_one, epochs=30, stops=(2, 7, 9))
    assert 3 <= whole.epoch < 30


def test_more_patience_lets_a_stopped_run_continue(tmp_path):
    kwargs = {"patience": 1, "min_delta": 100.0}
    make(tmp_path, [EarlyStopping(**kwargs)]).fit(data_loader(), 9, data_loader(16))
    same = make(tmp_path, [EarlyStopping(**kwargs)])
    with pytest.warns(UserWarning, match="nothing was trained"):
        assert len(same.fit(data_loader(), 9, data_loader(16))) == 2
    more = make(tmp_path, [EarlyStopping(**kwargs | {"patience": 3})])
    assert len(more.fit(data_loader(), 9, data_loader(16))) == 4


def test_a_run_that_a_callback_stopped_continues_in_the_next_fit(tmp_path):
    """Like a job whose time is over."""

    class Stopping(Callback):
        def on_step(self, trainer, result):
            trainer.stop()

    assert len(make(tmp_path, [Stopping()]).fit(data_loader(), 3)) == 1
    assert len(make(tmp_path, [Stopping()]).fit(data_loader(), 3)) == 2
    assert len(make(tmp_path).fit(data_loader(), 3)) == 3


class Stream:
    """Batches without a length."""

    def __iter__(self):
        return iter(list(data_loader()))


def test_a_loader_of_unknown_length(tmp_path):
    """Also after the last step of an epoch, which is saved within the epoch, as its end is not known."""
    assert_resumes(tmp_path, make, Stream, stops=range(1, 8), epochs=3)


def test_an_interrupted_fit_restarts_its_epoch():
    trainer = make(None, [StopAt(2)])
    with pytest.raises(Stop):
        trainer.fit(data_loader(), 1)
    trainer.callbacks.clear()
    (logs,) = trainer.fit(data_loader(), 1)
    assert trainer.totals.samples == 40
    assert (trainer.step, trainer.steps_in_epoch) == (5, 3)
    assert logs["epoch"] == 1


def test_a_path_is_read_whenever_it_is_given(tmp_path):
    trainer = make(tmp_path, keep_last=9)
    trainer.fit(data_loader(), 1)
    first = copy.deepcopy(trainer.model.state_dict())
    trainer.fit(data_loader(), 2)
    with pytest.warns(UserWarning, match="nothing was trained"):
        trainer.fit(data_loader(), 1, resume=tmp_path / "step-0000000003.pt")
    assert trainer.epoch == 1
    assert all(torch.equal(first[name], value) for name, value in trainer.model.state_dict().items())


def test_numpy_scalars_in_a_checkpoint(tmp_path):
    class Score(Callback):
        seen = 0

        def on_epoch_end(self, trainer, logs):
            logs["score"] = np.float64(0.5)

        def state_dict(self):
            return {"seen": np.int64(7), "names": {"a"}, "type": torch.float32}

        def load_state_dict(self, state):
            self.seen = state["seen"]

    trainer = make(tmp_path, [Score()])
    trainer.optimizer.param_groups[0]["lr"] = np.float64(0.01)
    trainer.fit(data_loader(), 1)
    resumed = make(tmp_path, [Score()])
    with pytest.warns(UserWarning, match="nothing was trained"):
        resumed.fit(data_loader(), 1)
    assert resumed.history == trainer.history
    assert resumed.callbacks[0].seen == 7


def test_state_that_cannot_be_loaded_is_not_saved(tmp_path):
    class Odd(Callback):
        def state_dict(self):
            return {"path": [tmp_path]}

    with pytest.raises(ArgumentError, match=r"state\['callbacks'\]\[0\]\[1\]\['path'\]\[0\]: .* found PosixPath"):
        make(tmp_path / "run", [Odd()]).fit(data_loader(), 1)
    assert not [name for _, _, names in os.walk(tmp_path) for name in names]


def test_another_optimizer_or_scheduler_is_refused_before_anything_is_changed(tmp_path):
    make(tmp_path, scheduler=SCHEDULERS["step"]).fit(data_loader(), 1)
    for kwargs, message in (
        ({"optimizer": torch.optim.SGD}, "another optimizer: expected SGD, found AdamW"),
        ({"scheduler": None}, "another scheduler: expected none, found StepLR"),
        ({"scheduler": SCHEDULERS["lambda"]}, "another scheduler: expected LambdaLR, found StepLR"),
        ({"precision": "fp16"}, "another scaler: expected GradScaler, found none"),
    ):
        trainer = make(tmp_path, **{"scheduler": SCHEDULERS["step"]} | kwargs)
        before = parameters_of(trainer.model).clone()
        with pytest.raises(StateError, match=message):
            trainer.fit(data_loader(), 2)
        assert torch.equal(before, parameters_of(trainer.model))


def test_the_best_is_never_nan_and_must_exist(tmp_path):
    class Score(Callback):
        def on_epoch_end(self, trainer, logs):
            logs["score"] = [float("nan"), 0.5, float("nan"), 0.7][trainer.epoch]

    trainer = make(tmp_path, [Score(), EarlyStopping("score", patience=2)], monitor="score")
    assert len(trainer.fit(data_loader(), 4)) == 4
    assert trainer.best.value == 0.5
    assert torch.load(tmp_path / "best.pt", weights_only=True)["progress"]["epoch"] == 2
    with pytest.raises(ArgumentError, match="monitor: no 'val_acuracy' among"):
        make(None, monitor="val_acuracy").fit(data_loader(), 1)


def test_an_empty_validation_loader_is_found_before_the_first_epoch():
    trainer = make(None)
    with pytest.raises(ArgumentError, match="evaluate on is empty"):
        trainer.fit(data_loader(), 1, [])
    assert trainer.step == 0


@pytest.mark.parametrize(("stop", "warned"), [(2, False), (4, True), (8, True)])
def test_workers_that_live_on_are_said_once(tmp_path, stop, warned):
    """Five batches, two to a step, so three steps to an epoch; in the first epoch, new workers are as the old were."""

    def loader():
        dataset = torch.utils.data.TensorDataset(*samples(40))
        return torch.utils.data.DataLoader(dataset, 8, num_workers=1, persistent_workers=True)

    with pytest.raises(Stop):
        make(tmp_path, [StopAt(stop)]).fit(loader(), 3)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        make(tmp_path).fit(loader(), 3)
    assert sum("persistent_workers=True" in str(warning.message) for warning in said) == warned


class Unfreeze(Callback):
    """Adds the parameters of the first layer when an epoch begins."""

    def on_epoch_start(self, trainer):
        if trainer.epoch == 1 and len(trainer.optimizer.param_groups) == 1:
            trainer.optimizer.add_param_group({"params": list(trainer.model[0].parameters())})


def test_groups_of_parameters_that_a_callback_added(tmp_path):
    def head(parameters, lr):
        return torch.optim.AdamW(list(parameters)[2:], lr)

    make(tmp_path, [Unfreeze()], optimizer=head).fit(data_loader(), 2)
    resumed = make(tmp_path, [Unfreeze()], optimizer=head)
    with pytest.raises(StateError, match=r"expected groups of parameters: 1, found: 2: .* added again before fit"):
        resumed.fit(data_loader(), 3)
    resumed.optimizer.add_param_group({"params": list(resumed.model[0].parameters())})
    assert len(resumed.fit(data_loader(), 3)) == 3
    whole = make(None, [Unfreeze()], optimizer=head)
    whole.fit(data_loader(), 3)
    assert torch.equal(parameters_of(resumed.model), parameters_of(whole.model))
    make(tmp_path / "one", optimizer=head).fit(data_loader(), 1)
    more = make(tmp_path / "one", optimizer=head)
    more.optimizer.add_param_group({"params": list(more.model[0].parameters())})
    with pytest.raises(StateError, match="expected groups of parameters: 2, found: 1: add groups of parameters after"):
        more.fit(data_loader(), 2)
