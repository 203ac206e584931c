"""A stopped and resumed run ends bit-identical to an uninterrupted one."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from largeds_native.errors import ArgumentError, StateError
from largeds_native.trainer import EMA, Callback, CSVLogger, EarlyStopping, Trainer, checkpoint_file
from tests.trainer.helpers import (
    LossLog,
    Stop,
    StopAt,
    data_loader,
    kill_and_resume,
    numbers,
    parameters_of,
    samples,
    small_model,
)


class Augmented(Dataset):
    """Items that draw from all generators of the process, as transforms do."""

    def __init__(self, n: int = 40) -> None:
        self.inputs, self.targets = samples(n)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i):
        noise = torch.randn(6) * 0.1 + random.random() + np.random.rand()  # noqa: NPY002
        return self.inputs[i] + noise.float(), self.targets[i]


class OwnState:
    """A loader that keeps its position, as largeds_native.Loader does: order and noise are functions of the epoch."""

    def __init__(self, n: int = 40, batch_size: int = 8) -> None:
        self.inputs, self.targets = samples(n)
        self.batch_size, self.epoch, self.batch = batch_size, 0, 0

    def __len__(self) -> int:
        return -(-len(self.targets) // self.batch_size)

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.epoch)
        order = torch.randperm(len(self.targets), generator=generator)
        while self.batch < len(self):
            rows = order[self.batch * self.batch_size :][: self.batch_size]
            noise = torch.randn(self.inputs.shape, generator=torch.Generator().manual_seed(1000 + self.epoch))
            self.batch += 1
            yield self.inputs[rows] + noise[rows], self.targets[rows]
        self.epoch, self.batch = self.epoch + 1, 0

    def state_dict(self):
        return {"epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state):
        self.epoch, self.batch = state["epoch"], state["batch"]


def make_loader(kind: str):
    if kind == "own state":
        return OwnState()
    generator = torch.Generator().manual_seed(5) if kind == "generator" else None
    workers = 1 if kind == "workers" else 0
    return DataLoader(Augmented(), 8, shuffle=True, generator=generator, num_workers=workers)


def make_trainer(folder, callbacks=(), **options) -> Trainer:
    model = small_model(norm=True, dropout=0.3)
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    options = {"accumulate": 2, "micro_batch": 3, "checkpoint_every": 1, "keep_last": 99, "progress": False} | options
    return Trainer(
        model,
        optimizer,
        nn.CrossEntropyLoss(),
        scheduler=scheduler,
        scheduler_by="step",
        checkpoint_dir=folder,
        metrics={"accuracy": lambda outputs, targets: (outputs.argmax(1) == targets).double().mean()},
        callbacks=[EMA(0.9), *callbacks],
        **options,
    )


def disturb():
    """Changes the random state, as in another process."""
    torch.manual_seed(12345)
    random.seed(7)
    np.random.seed(7)  # noqa: NPY002


KINDS = ["shuffle", "generator", "own state"]


@pytest.mark.parametrize(("kind", "stop"), [*itertools.product(KINDS, [2, 3, 4, 5, 8]), ("workers", 2), ("workers", 5)])
def test_resume_is_bit_identical(tmp_path, kind, stop):
    """Three steps per epoch, with a checkpoint after each step but the one that stops; stops anywhere in an epoch."""
    whole = make_trainer(tmp_path / "whole")
    history = whole.fit(make_loader(kind), 3, data_loader(16))
    with pytest.raises(Stop):
        make_trainer(tmp_path / "cut", [StopAt(stop)]).fit(make_loader(kind), 3, data_loader(16))
    resumed = make_trainer(tmp_path / "cut")
    loader = make_loader(kind)
    disturb()
    again = resumed.fit(loader, 3, data_loader(16))
    assert numbers(again) == numbers(history)
    assert torch.equal(parameters_of(resumed.model), parameters_of(whole.model))
    ours, theirs = resumed.callbacks[0].average, whole.callbacks[0].average
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert resumed.step == whole.step == 9


def train_in_process(folder: Path, kind: str) -> None:
    torch.set_num_threads(1)
    disturb()
    trainer = make_trainer(folder, [LossLog(folder / "losses"), CSVLogger(folder / "log.csv")], keep_last=2)
    trainer.fit(make_loader(kind), 15, data_loader(16))
    torch.save(parameters_of(trainer.model), folder / "weights.pt")


@pytest.mark.parametrize("kind", ["shuffle", "own state"])
def test_sigkill_at_any_moment(tmp_path, kind):
    """The process is repeatedly killed at random times; losses and weights are those of an uninterrupted run."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["torch", "torch._dynamo", "torch.utils.data", "pytest"])  # what is slow to import
    assert len(kill_and_resume(server, train_in_process, tmp_path, kind, kills=5)) == 45


def test_a_truncated_checkpoint_is_skipped(tmp_path):
    make_trainer(tmp_path).fit(make_loader("own state"), 1)
    newest, before = sorted(tmp_path.glob("step-*.pt"), reverse=True)[:2]
    whole = newest.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        newest.write_bytes(whole[:length])
        trainer = make_trainer(tmp_path)
        with pytest.warns(UserWarning, match="not a complete checkpoint"):
            trainer.fit(make_loader("own state"), 1)
        assert trainer.step == 3
        newest.write_bytes(whole[:length])
        with pytest.raises(StateError, match="not a complete checkpoint"):
            make_trainer(None).fit(make_loader("own state"), 1, resume=newest)
    assert before.exists()


def test_resume_from_a_path_and_start_again(tmp_path):
    make_trainer(tmp_path).fit(make_loader("own state"), 2)
    trainer = make_trainer(None)
    trainer.fit(make_loader("own state"), 2, resume=tmp_path / "step-0000000003.pt")
    assert trainer.epoch == 2
    with pytest.raises(StateError, match="no such checkpoint"):
        make_trainer(None).fit(make_loader("own state"), 2, resume=tmp_path / "none.pt")
    with pytest.raises(ArgumentError, match="checkpoints of another run"):
        make_trainer(tmp_path).fit(make_loader("own state"), 2, resume=None)


def test_a_resumed_run_says_so(tmp_path, capsys):
    """And names its checkpoint; a run that begins anew says nothing."""
    with pytest.raises(Stop):
        make_trainer(tmp_path, [StopAt(5)], progress=True).fit(OwnState(), 3)
    assert "resumed" not in capsys.readouterr().err
    trainer = make_trainer(tmp_path, progress=True)
    trainer.fit(OwnState(), 3)
    saved = tmp_path / "step-0000000004.pt"
    assert trainer.resumed_from == saved
    assert capsys.readouterr().err.startswith(f"resumed from {saved} (epochs done: 1, steps done: 4)\n")


def test_a_second_fit_continues(tmp_path):
    trainer, whole = make_trainer(tmp_path / "a"), make_trainer(tmp_path / "b")
    loader = make_loader("own state")
    trainer.fit(loader, 1)
    trainer.fit(loader, 2)
    torch.manual_seed(3)
    whole.fit(make_loader("own state"), 2)
    assert torch.equal(parameters_of(trainer.model), parameters_of(whole.model))


def test_another_model_s_checkpoint(tmp_path):
    make_trainer(tmp_path).fit(make_loader("own state"), 1)
    for model, message in (
        (nn.Sequential(nn.Linear(6, 9)), r"another model: 0\.weight is \(9, 6\) here, \(8, 6\) in the file"),
        (small_model(), r"another model"),
    ):
        before = parameters_of(model).clone()
        optimizer = torch.optim.AdamW(model.parameters(), 0.01)
        trainer = Trainer(model, optimizer, nn.CrossEntropyLoss(), checkpoint_dir=tmp_path, progress=False)
        with pytest.raises(StateError, match=message):
            trainer.fit(make_loader("own state"), 2)
        assert torch.equal(before, parameters_of(model))


def test_a_checkpoint_that_runs_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "pwned"),))

    path = tmp_path / "evil.pt"
    torch.save({"format": "largeds-checkpoint", "version": 1, "model": Evil()}, path)
    with open(path, "rb+") as file:
        checkpoint_file._append_hash(file)  # as an attacker would
    with pytest.raises(StateError, match="not a complete checkpoint"):
        make_trainer(None).fit(make_loader("own state"), 1, resume=path)
    assert not (tmp_path / "pwned").exists()


def test_the_last_and_the_best_are_kept(tmp_path):
    class Fake(Callback):
        def on_epoch_end(self, trainer, logs):
            logs["score"] = [0.1, 0.9, 0.5, 0.2][trainer.epoch]

    trainer = make_trainer(tmp_path, [Fake()], keep_last=2, checkpoint_every=None, monitor="score", monitor_mode="max")
    trainer.fit(make_loader("own state"), 4)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["best.pt", "step-0000000009.pt", "step-0000000012.pt"]
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert best["progress"]["epoch"] == 2
    assert trainer.best.value == 0.9


def test_early_stopping_stays_stopped(tmp_path):
    stopping = EarlyStopping(patience=1, min_delta=100.0)
    make_trainer(tmp_path, [stopping]).fit(make_loader("own state"), 9, data_loader(16))
    again = make_trainer(tmp_path, [EarlyStopping(patience=1, min_delta=100.0)])
    with pytest.warns(UserWarning, match="nothing was trained"):
        assert len(again.fit(make_loader("own state"), 9, data_loader(16))) == 2
