"""A run that is killed on three ranks goes on with two: each sample of the epoch is seen once."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import largeds_native as lds
from largeds_native.errors import StateError
from largeds_native.trainer import Callback, Trainer
from tests.trainer.processes import run, start
from tests.trainer.test_ranks import accuracy

N, SIZE = 77, 2
fsdp = pytest.importorskip("torch.distributed.fsdp")


class Numbers(nn.Module):
    """A model of pictures whose first pixel is the sample's number; each step's numbers go to a file."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.seen: list[int] = []

    def forward(self, x):
        self.seen = x.flatten(1)[:, 0].mul(255).round().int().tolist()
        return self.layer(x.flatten(1))


class Tell(Callback):
    """Writes which samples a step had, before the step's checkpoint; and waits, to be killed."""

    def __init__(self, path: Path, model: Numbers, wait_at: int | None) -> None:
        self.path, self.model, self.wait_at = path, model, wait_at

    def on_step(self, trainer, result):
        with open(self.path, "a") as file:
            file.write(f"{trainer.epoch} {trainer.step} {' '.join(map(str, self.model.seen[: result.samples]))}\n")
        if trainer.step == self.wait_at:
            time.sleep(600)


def train(rank: int, folder: Path, kind: str, wait_at: int | None = None, epochs: int = 2) -> None:
    torch.manual_seed(0)
    model = Numbers()
    if kind == "fsdp":
        fsdp.fully_shard(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    world_size = dist.get_world_size()
    tell = Tell(folder / f"{kind}-{world_size}-{rank}.txt", model, wait_at)
    kwargs = {"checkpoint_dir": folder / kind, "checkpoint_every": 1, "callbacks": [tell], "progress": False}
    trainer = Trainer(model, optimizer, nn.CrossEntropyLoss(), metrics={"accuracy": accuracy}, **kwargs)
    history = trainer.fit(lds.Loader(lds.open(folder / "s.lds"), SIZE, shuffle=True, seed=3), epochs)
    totals = trainer.ranks.sum(trainer.totals.weight)
    assert totals == [N + (-N % world_size)], totals  # all samples of the last epoch, with those that fill it up
    assert len(history) == epochs


def ddp_until_killed(rank: int, folder: Path) -> None:
    train(rank, folder, "ddp", wait_at=5)


def fsdp_until_killed(rank: int, folder: Path) -> None:
    train(rank, folder, "fsdp", wait_at=5)


def go_on(rank: int, folder: Path) -> None:
    """Both kinds, in one start; and a loader whose position can't be shared out."""
    for kind in ("ddp", "fsdp"):
        train(rank, folder, kind)
    dataset = TensorDataset(torch.rand(24, 6), torch.arange(24) % 3)
    model = nn.Linear(6, 3)
    trainer = Trainer(model, torch.optim.SGD(model.parameters(), 0.1), nn.CrossEntropyLoss(), progress=False)
    trainer.fit(DataLoader(dataset, 4), 1)
    state = trainer.state_dict()
    trainer.position.in_epoch = True
    within = trainer.state_dict()
    for changed in (state, within):
        changed["ranks"] = changed["ranks"] * 2
    with pytest.raises(StateError, match="saved by 4 ranks, there are 2 now: the position in the epoch is each"):
        trainer.load_state_dict(within)
    trainer.load_state_dict(state)  # at an epoch's end


def told(folder: Path, kind: str, world_size: int) -> dict[tuple[int, int], list[int]]:
    """(epoch, step) -> the samples of all ranks."""
    found: dict[tuple[int, int], list[int]] = {}
    for rank in range(world_size):
        for line in (folder / f"{kind}-{world_size}-{rank}.txt").read_text().splitlines():
            epoch, step, *numbers = map(int, line.split())
            found.setdefault((epoch, step), []).extend(numbers)
    return found


@pytest.mark.skipif(not hasattr(fsdp, "fully_shard"), reason="fully_shard is in torch 2.6")
def test_killed_on_three_ranks_resumed_on_two(tmp_path):
    images = np.zeros((N, 1, 2, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(N)
    lds.pack((images, np.arange(N) % 3), tmp_path / "s.lds", resize=None, crop=None, progress=False)
    for kind, check in (("ddp", ddp_until_killed), ("fsdp", fsdp_until_killed)):
        processes = start(3, check, tmp_path)
        files = [tmp_path / f"{kind}-3-{rank}.txt" for rank in range(3)]
        deadline = time.monotonic() + 150
        while time.monotonic() < deadline and not all(f.exists() and f.read_text().count("\n") >= 5 for f in files):
            time.sleep(0.05)
        for process in processes:
            process.kill()
        for process in processes:
            process.join()
    run(2, go_on, tmp_path)
    for kind in ("ddp", "fsdp"):
        before, after = told(tmp_path, kind, 3), told(tmp_path, kind, 2)
        assert max(before) == (0, 5)
        assert min(after) == (0, 5)  # step 5 was not saved: its samples come again
        kept = [numbers for (_, step), numbers in before.items() if step < 5]
        first = list(itertools.chain(*kept, *(numbers for (epoch, _), numbers in after.items() if epoch == 0)))
        assert len(kept) == 4
        assert all(len(numbers) == 3 * SIZE for numbers in kept)
        assert set(first) == set(range(N))
        assert len(first) == N + (N - 4 * 3 * SIZE) % 2  # the last batch of two ranks is filled up by one sample
        second = list(itertools.chain(*(numbers for (epoch, _), numbers in after.items() if epoch == 1)))
        assert set(second) == set(range(N))
        assert len(second) == N + N % 2
