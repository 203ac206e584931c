"""The trainer with the package's Loader: augmentation, resume within an epoch, kills, out of memory."""

from __future__ import annotations

import multiprocessing
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import largeds_native as lds
from largeds_native.trainer import Callback, Trainer
from tests.trainer.helpers import LossLog, Stop, StopAt, kill_and_resume, numbers, parameters_of
from tests.trainer.test_memory import Fails

AUGMENT = lds.Augment(random_crop=8, padding=2, flip=0.5)
N, BATCH = 42, 8  # the last batch has 2


def make_store(folder: Path) -> Path:
    """42 images of 3x8x8 in three classes, in two shards."""
    images = np.random.default_rng(0).integers(0, 256, (N, 3, 8, 8), np.uint8)
    lds.pack((images, np.arange(N) % 3), folder / "s.lds", resize=None, crop=None, progress=False, shard_bytes=24 * 192)
    return folder / "s.lds"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("loader"))


def small_cnn(fails: nn.Module | None = None) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        fails or nn.Identity(),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(64, 3),
    )


def loader_of(store: Path, batch_size: int = BATCH, **options) -> lds.Loader:
    options = {"augment": AUGMENT, "seed": 5, "threads": 2} | options
    if not {"order", "weights"} & options.keys():
        options["shuffle"] = True
    return lds.Loader(lds.open(store), batch_size, **options)


def make_trainer(folder: Path | None, callbacks=(), *, fails: nn.Module | None = None, **options) -> Trainer:
    model = small_cnn(fails)
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    torch.manual_seed(3)
    options = {"accumulate": 2, "micro_batch": 3, "checkpoint_every": 1, "keep_last": 3} | options
    return Trainer(
        model,
        optimizer,
        nn.CrossEntropyLoss(),
        scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20),
        scheduler_by="step",
        checkpoint_dir=folder,
        metrics={"accuracy": lambda outputs, targets: (outputs.argmax(1) == targets).double().mean()},
        callbacks=callbacks,
        progress=False,
        **options,
    )


class LabelLog(Callback):
    """Records the labels of each step."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def record(self, loader: lds.Loader):
        for images, labels in loader:
            self.seen += labels.tolist()
            yield images, labels


ORDERS = {
    "shuffled": {},
    "block": {"order": "block", "block": 4},
    "weighted": {"weights": np.arange(1, N + 1)},
}


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("order", ORDERS)
def test_resume_is_bit_identical(store: Path, tmp_path: Path, order: str, stop: int) -> None:
    """Three steps per epoch (2, 2 and 2 batches); stopped within an epoch, at its end, and in the next one."""

    def loaders(threads: int) -> tuple[lds.Loader, lds.Loader]:
        # validation in a random order, too: it must be that of its epoch after a resume
        return loader_of(store, threads=threads, **ORDERS[order]), loader_of(store, 16, threads=threads)

    whole = make_trainer(tmp_path / "whole")
    history = whole.fit(*_with_epochs(loaders(2)))
    with pytest.raises(Stop):
        make_trainer(tmp_path / "cut", [StopAt(stop)]).fit(*_with_epochs(loaders(2)))
    torch.manual_seed(999)  # another process has another random state
    resumed = make_trainer(tmp_path / "cut")
    again = resumed.fit(*_with_epochs(loaders(1)))
    assert numbers(again) == numbers(history)
    assert torch.equal(parameters_of(resumed.model), parameters_of(whole.model))
    assert resumed.step == 9


def _with_epochs(loaders: tuple[lds.Loader, lds.Loader]) -> tuple[lds.Loader, int, lds.Loader]:
    return loaders[0], 3, loaders[1]


def train_in_process(folder: Path, store: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(int.from_bytes(random.randbytes(4)))
    trainer = make_trainer(folder, [LossLog(folder / "losses")])
    trainer.fit(loader_of(store), 12, loader_of(store, 16))
    torch.save(parameters_of(trainer.model), folder / "weights.pt")


def test_sigkill_at_any_moment(store: Path, tmp_path: Path) -> None:
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["torch", "torch._dynamo", "torch.utils.data", "pytest"])
    assert len(kill_and_resume(server, train_in_process, tmp_path, store, kills=5)) == 36


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_after_out_of_memory_the_loader_continues_at_the_same_position(
    store: Path, tmp_path: Path, at: int, where: str
) -> None:
    """micro_batch="auto": the group's batches are not fetched again, and the position after each step is correct."""
    runs = []
    for name, fails, micro_batch in (("auto", Fails(at, where), "auto"), ("four", None, 4)):
        trainer = make_trainer(tmp_path / name, fails=fails, micro_batch=micro_batch, accumulate=3)
        labels, loader = LabelLog(), loader_of(store)
        position = []

        class After(Callback):
            def on_step(self, trainer, result, position=position, loader=loader):
                position.append(loader.state_dict()["position"])

        trainer.callbacks.append(After())
        history = trainer.fit(RecordedLoader(loader, labels), 2)
        runs.append((numbers(history), parameters_of(trainer.model).tolist(), labels.seen, position))
        assert trainer.accumulator.micro_batch == 4
        assert position == [24, 42] * 2
    assert runs[0] == runs[1]
    states = [torch.load(tmp_path / name / "step-0000000003.pt", weights_only=True) for name in ("auto", "four")]
    stored = [state["ranks"][0]["position"] for state in states]
    assert stored[0]["loader"] == stored[1]["loader"]


class RecordedLoader:
    """A loader whose labels are recorded."""

    def __init__(self, loader: lds.Loader, labels: LabelLog) -> None:
        self.loader, self.labels = loader, labels
        self.state_dict, self.load_state_dict = loader.state_dict, loader.load_state_dict

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self):
        return self.labels.record(self.loader)


def test_the_trainer_holds_one_batch_at_a_time(store: Path) -> None:
    """A batch is freed before the next one is fetched, so accumulation needs no further slots of the ring."""
    loader = loader_of(store, prefetch=0)
    in_use = []

    class Asked:
        def __iter__(self):
            iterator = iter(loader)
            while True:
                in_use.append(loader.stats()["slots_in_use"])
                batch = next(iterator, None)
                if batch is None:
                    return
                yield batch
                del batch

    make_trainer(None, accumulate=3, checkpoint_every=None).fit(Asked(), 1)
    assert in_use == [0, *[1] * 6]  # the iterator lets a batch go when it is asked for the next


def test_a_store_s_dataset_in_torch_s_dataloader(store: Path, tmp_path: Path) -> None:
    """The same images in the same order, and exact resume, with a sampler that knows its epoch."""

    def to_float(items):
        images, labels = torch.utils.data.default_collate(items)
        return images.float() / 255, labels

    def make_loader():
        sampler = lds.ShuffleSampler(N, seed=5)
        return torch.utils.data.DataLoader(
            lds.StoreDataset(lds.open(store)), BATCH, sampler=sampler, collate_fn=to_float
        )

    def fit(loader, name: str | None = None, callbacks=()):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
        kwargs = {"callbacks": callbacks, "checkpoint_every": 1, "checkpoint_dir": name and tmp_path / name}
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        Trainer(model, optimizer, nn.CrossEntropyLoss(), accumulate=2, progress=False, **kwargs).fit(loader, 2)
        return parameters_of(model)

    whole = fit(make_loader(), "whole")
    torch.testing.assert_close(whole, fit(loader_of(store, augment=None)))
    for stop in (2, 5):
        with pytest.raises(Stop):
            fit(make_loader(), f"cut-{stop}", [StopAt(stop)])
        assert torch.equal(whole, fit(make_loader(), f"cut-{stop}"))
