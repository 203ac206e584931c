"""A run that goes back to an earlier checkpoint, and folders that can't hold checkpoints."""

from __future__ import annotations

import os
import warnings

import pytest
import torch
from torch import nn

from largeds_native.errors import StorageError
from largeds_native.trainer import Callback, CheckpointFolder, Trainer
from tests.trainer.helpers import Stop, data_loader, parameters_of, small_model


def make(folder, callbacks=(), **options):
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    options = {"keep_last": 2, "progress": False} | options
    return Trainer(model, optimizer, nn.CrossEntropyLoss(), checkpoint_dir=folder, callbacks=callbacks, **options)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()  # not best.pt, which may be the same file
    path.write_bytes(data)


class StopBeforeEpoch(Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch_start(self, trainer):
        if trainer.epoch == self.epoch:
            raise Stop


@pytest.mark.parametrize("damaged", [False, True])
def test_a_run_that_goes_back_keeps_its_new_checkpoints(tmp_path, damaged):
    """The best is after epoch 1, at step 5; the folder has steps 20 and 25, whole or damaged."""
    best = {"monitor": "train_loss", "monitor_mode": "max"}
    make(tmp_path, **best).fit(data_loader(), 5)
    assert names(tmp_path) == ["best.pt", "step-0000000020.pt", "step-0000000025.pt"]
    if damaged:
        for path in CheckpointFolder(tmp_path).files():
            damage(path)
    message = r"continued from an earlier step than that of step-0+25\.pt, step-0+20\.pt"
    with pytest.warns(UserWarning, match=message) as said, pytest.raises(Stop):
        make(tmp_path, [StopBeforeEpoch(3)], **best).fit(data_loader(), 5, resume=tmp_path / "best.pt")
    assert len(said) == 1
    abandoned = ["abandoned-step-0000000020.pt", "abandoned-step-0000000025.pt"]
    assert names(tmp_path) == [*abandoned, "best.pt", "step-0000000010.pt", "step-0000000015.pt"]
    again = make(tmp_path, **best)
    again.fit(data_loader(), 5)
    assert (again.epoch, again.step) == (5, 25)
    assert names(tmp_path) == [*abandoned, "best.pt", "step-0000000020.pt", "step-0000000025.pt"]


def test_a_file_of_the_same_step_keeps_its_bytes(tmp_path):
    make(tmp_path, keep_last=9).fit(data_loader(), 2)
    old = (tmp_path / "step-0000000010.pt").read_bytes()
    for number in ("", "-2"):
        with pytest.warns(UserWarning, match="earlier step"):
            make(tmp_path, keep_last=9).fit(data_loader(), 2, resume=tmp_path / "step-0000000005.pt")
        assert (tmp_path / f"abandoned-step-0000000010{number}.pt").exists()
    assert (tmp_path / "abandoned-step-0000000010.pt").read_bytes() == old


def test_damaged_checkpoints_do_not_count(tmp_path):
    make(tmp_path, checkpoint_every=1, keep_last=3).fit(data_loader(), 1)  # steps 3, 4, 5
    for step in (4, 5):
        damage(tmp_path / f"step-{step:010d}.pt")
    folder = CheckpointFolder(tmp_path, keep_last=2)
    folder.save({"n": 1}, 6)
    assert names(tmp_path) == [f"step-{step:010d}.pt" for step in (3, 4, 5, 6)]
    folder.save({"n": 1}, 7)
    assert names(tmp_path) == [f"step-{step:010d}.pt" for step in (6, 7)]


def test_an_unusable_folder_is_found_before_the_first_step(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        trainer = make(folder)
        with pytest.raises(StorageError, match="can't keep checkpoints there"):
            trainer.fit(data_loader(), 1)
        assert trainer.step == 0
    if os.getuid():
        locked = tmp_path / "locked"
        locked.mkdir(0o500)
        with pytest.raises(StorageError, match="can't keep checkpoints there"):
            make(locked).fit(data_loader(), 1)
    make(tmp_path / "new" / "folder").fit(data_loader(), 1)
    assert names(tmp_path / "new" / "folder") == ["step-0000000005.pt"]


def test_the_best_is_saved_by_the_next_fit_if_its_save_failed(tmp_path, monkeypatch):
    trainer = make(tmp_path)
    save, calls = CheckpointFolder.save, []

    def failing(folder, state, step, *, best=False):
        calls.append(best)
        if len(calls) == 2:
            raise StorageError("the disk is full")
        return save(folder, state, step, best=best)

    monkeypatch.setattr(CheckpointFolder, "save", failing)
    with pytest.raises(StorageError, match="full"):
        trainer.fit(data_loader(), 1, data_loader(16))
    assert not (tmp_path / "best.pt").exists()
    weights = parameters_of(trainer.model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nothing was trained
        trainer.fit(data_loader(), 1, data_loader(16))
    assert calls == [False, True, True]
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert best["progress"]["epoch"] == 1
    saved = [best["model"][name].flatten() for name, _ in trainer.model.named_parameters()]
    assert torch.equal(torch.cat(saved), weights)
