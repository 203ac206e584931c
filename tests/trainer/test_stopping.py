"""SIGTERM between two steps; and what a resume says of a folder that is damaged, done, or of other settings."""

from __future__ import annotations

import os
import signal
import threading
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from largeds_native.errors import ArgumentError, StateError
from largeds_native.trainer import EMA, Callback, CheckpointFolder, EarlyStopping, StoppedBySignal, Trainer
from tests.trainer.helpers import data_loader, numbers, parameters_of, small_model, small_trainer

make = partial(small_trainer, accumulate=2)


class Terminate(Callback):
    """SIGTERM comes at this step, or in the validation after it."""

    def __init__(self, step: int, moment: str = "on_step") -> None:
        self.step, self.moment = step, moment

    def on_step(self, trainer, result):
        self._kill("on_step", trainer)

    def on_evaluate_start(self, trainer):
        self._kill("on_evaluate_start", trainer)

    def on_epoch_start(self, trainer):
        self._kill("on_epoch_start", trainer)

    def _kill(self, moment, trainer):
        if (trainer.step, moment) == (self.step, self.moment):
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("step", "moment", "stopped_at"),
    [
        (1, "on_step", 1),
        (3, "on_step", 3),
        (5, "on_step", 5),
        (3, "on_evaluate_start", 3),
        (3, "on_epoch_start", 4),
        (9, "on_step", 9),
    ],
)
def test_sigterm_saves_stops_and_goes_on(tmp_path, capsys, step, moment, stopped_at):
    whole = make(tmp_path / "whole")
    history = whole.fit(data_loader(shuffle=True), 3, data_loader(16))
    before = signal.getsignal(signal.SIGTERM)
    trainer = make(tmp_path / "cut", [Terminate(step, moment)], stop_on_signal=True)
    with pytest.raises(SystemExit) as stopped:
        trainer.fit(data_loader(shuffle=True), 3, data_loader(16))
    assert isinstance(stopped.value, StoppedBySignal)
    assert stopped.value.code == 75
    assert trainer.step == stopped_at
    assert f"stopped by SIGTERM after step {stopped_at}, saved in {tmp_path / 'cut'}" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before
    resumed = make(tmp_path / "cut", stop_on_signal=True)
    torch.manual_seed(99)
    assert numbers(resumed.fit(data_loader(shuffle=True), 3, data_loader(16))) == numbers(history)
    assert torch.equal(parameters_of(resumed.model), parameters_of(whole.model))
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_handler_is_put_back_after_an_error(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ArgumentError):
        make(tmp_path, stop_on_signal=True).fit([torch.zeros(3, 6)], 1)
    assert signal.getsignal(signal.SIGTERM) is before


def test_where_a_signal_can_t_be_heeded(tmp_path):
    with pytest.raises(ArgumentError, match="give a checkpoint_dir, too"):
        make(None, stop_on_signal=True)
    found = []

    def fit():
        try:
            make(tmp_path, stop_on_signal=True).fit(data_loader(), 1)
        except ArgumentError as error:
            found.append(str(error))

    thread = threading.Thread(target=fit)
    thread.start()
    thread.join()
    assert found == ["stop_on_signal: fit must run in the process's main thread"]


def flip(path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_a_flipped_bit_is_found_anywhere(tmp_path):
    path = CheckpointFolder(tmp_path).save({"weights": torch.arange(50.0), "n": 3}, 1)
    whole = path.read_bytes()
    assert torch.load(path, weights_only=True)["n"] == 3  # an ordinary file of torch
    for at in range(0, len(whole), 7):
        flip(path, at)
        with pytest.raises(StateError, match="not a complete checkpoint"):
            CheckpointFolder(tmp_path).newest()
        path.write_bytes(whole)


def test_the_checkpoint_before_a_damaged_one_is_used(tmp_path):
    whole = make(tmp_path / "whole")
    history = whole.fit(data_loader(), 4)
    make(tmp_path / "run", keep_last=3).fit(data_loader(), 3)
    third, second, first = CheckpointFolder(tmp_path / "run").files()
    flip(third, third.stat().st_size // 2)
    flip(second, second.stat().st_size // 2)
    again = make(tmp_path / "run", keep_last=3)
    with pytest.warns(UserWarning, match=rf"{first.name} is used.*{third.name}.*{second.name}") as said:
        again.fit(data_loader(), 4)
    assert numbers(again.history) == numbers(history)
    assert len(said) == 1
    assert torch.equal(parameters_of(again.model), parameters_of(whole.model))


def test_a_folder_of_damaged_checkpoints_is_not_begun_anew(tmp_path):
    make(tmp_path).fit(data_loader(), 2, data_loader(16))
    for path in CheckpointFolder(tmp_path).files():
        flip(path, path.stat().st_size // 2)
    trainer = make(tmp_path)
    with pytest.raises(StateError, match=r"no checkpoint can be read: .*best\.pt"):
        trainer.fit(data_loader(), 3)
    assert trainer.step == 0


SCHEDULERS = {
    "": None,
    "cosine": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 5),
    "warm-up": lambda optimizer: lr_scheduler.LinearLR(optimizer, 0.1, total_iters=3),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_other_settings_than_the_checkpoint_s_are_said_once(tmp_path, name):
    make(tmp_path, scheduler=SCHEDULERS[name]).fit(data_loader(), 1)
    make(tmp_path, scheduler=SCHEDULERS[name]).fit(data_loader(), 2)  # the same ones: silence
    for epochs in (3, 4):
        trainer = make(tmp_path, lr=0.5, scheduler=SCHEDULERS[name])
        with pytest.warns(UserWarning, match=r"goes on with the checkpoint's settings: lr 0\.01, not 0\.5\.") as said:
            trainer.fit(data_loader(), epochs)
        assert len(said) == 1
    assert trainer.optimizer.param_groups[0]["lr"] <= 0.01


def test_another_length_of_the_schedule_is_said(tmp_path):
    make(tmp_path, scheduler=SCHEDULERS["cosine"]).fit(data_loader(), 1)
    longer = make(tmp_path, scheduler=lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 50))
    with pytest.warns(UserWarning, match="CosineAnnealingLR's T_max 5, not 50"):
        longer.fit(data_loader(), 2)


def test_a_fit_with_nothing_to_train_says_so(tmp_path):
    trainer = make(tmp_path)
    trainer.fit(data_loader(), 2)
    with pytest.warns(UserWarning, match="this trainer: nothing was trained: epochs done: 2, asked for: 1 in all"):
        trainer.fit(data_loader(), 1)
    again = make(tmp_path)
    with pytest.warns(UserWarning, match=r"step-0000000006\.pt: nothing was trained: epochs done: 2"):
        assert len(again.fit(data_loader(), 2)) == 2
    make(tmp_path / "other").fit(data_loader(), 0)  # as asked


def test_a_run_that_a_callback_had_stopped_says_so(tmp_path):
    def stopping():
        return [EarlyStopping(patience=1, min_delta=100.0)]

    make(tmp_path, stopping()).fit(data_loader(), 9, data_loader(16))
    with pytest.warns(UserWarning, match="a callback had stopped the run at epoch 2"):
        make(tmp_path, stopping()).fit(data_loader(), 9, data_loader(16))


def test_best_pt_holds_the_average_that_was_judged(tmp_path):
    trainer = make(tmp_path, [EMA(0.8)])
    trainer.fit(data_loader(), 3, data_loader(16))
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    judged = small_model(norm=True, dropout=0.3)
    judged.load_state_dict(best["model"])
    history = trainer.history[best["progress"]["epoch"] - 1]
    assert make(None).monitor == "val_loss"
    evaluated = Trainer(judged, torch.optim.SGD(judged.parameters(), 0.1), nn.CrossEntropyLoss(), progress=False)
    assert evaluated.evaluate(data_loader(16))["loss"] == pytest.approx(history["val_loss"], rel=1e-6)
    resumed = make(None, [EMA(0.8)])
    resumed.fit(data_loader(), best["progress"]["epoch"] + 1, data_loader(16), resume=tmp_path / "best.pt")
    assert resumed.epoch == best["progress"]["epoch"] + 1
    own = {name: value for name, value in best["training_model"].items() if name.endswith("weight")}
    assert any(not torch.equal(own[name], best["model"][name]) for name in own)


def test_a_resume_from_best_pt_with_an_average_is_bit_identical(tmp_path):
    whole = make(tmp_path, [EMA(0.8)], monitor="train_loss")
    whole.fit(data_loader(), 3)
    epoch = torch.load(tmp_path / "best.pt", weights_only=True)["progress"]["epoch"]
    resumed, twin = make(None, [EMA(0.8)]), make(None, [EMA(0.8)])
    resumed.fit(data_loader(), epoch + 1, resume=tmp_path / "best.pt")
    torch.manual_seed(3)
    twin.fit(data_loader(), epoch + 1)
    assert torch.equal(parameters_of(resumed.model), parameters_of(twin.model))
