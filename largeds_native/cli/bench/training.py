"""How fast does a model train? The same model behind each loader; the limit is the model with its batch in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

import largeds_native as lds
from largeds_native.cli import peers
from largeds_native.cli.bench.candidates import OURS, Candidate
from largeds_native.cli.bench.loading import exported, files
from largeds_native.cli.bench.work import Work
from largeds_native.cli.training import build, chosen_device

BATCH = 32
ON_CPU = 4 * BATCH  # images of a round, where a step takes long


def title(model: str) -> str:
    return f"train: {model}, batches of {BATCH}, on {'the CPU' if chosen_device(None).type == 'cpu' else 'a GPU'}"


def candidates(work: Work, name: str, stack: ExitStack) -> list[Candidate]:
    device = chosen_device(None)
    batch = min(BATCH, work.count)
    count = work.count // batch * batch
    if device.type == "cpu":
        count = min(count, ON_CPU)
    model = build(name, len(work.store.classes), work.store).to(device)
    loader = stack.enter_context(
        lds.Loader(
            work.store,
            batch,
            shuffle=True,
            indices=range(count),
            mean=peers.MEAN,
            std=peers.STD,
            threads=work.threads,
            device=device,
        )
    )

    def ours() -> int:
        trainer = lds.Trainer(model, _sgd(model), nn.CrossEntropyLoss(), progress=False)
        trainer.fit(loader, 1)
        return count

    def plain(dataset: Any) -> Callable[[], int]:
        some = Subset(dataset, range(count))
        batches = DataLoader(
            some,
            batch,
            shuffle=True,
            num_workers=work.threads,
            persistent_workers=True,
            pin_memory=device.type == "cuda",
        )
        return lambda: _epoch(model, batches, device)

    def alone() -> Callable[[], int]:
        images, labels = next(iter(loader))
        images, labels = images.clone(), labels.clone()
        return lambda: _epoch(model, [(images, labels)] * (count // batch), device)

    return [
        Candidate(OURS, lambda: ours, "ours"),
        Candidate("torchvision + DataLoader", lambda: plain(files(work))),
        Candidate("HDF5 + DataLoader", lambda: plain(peers.HDF5Rows(exported(work)))),
        Candidate("the model alone", alone, "limit"),
    ]


def _sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)


def _epoch(model: nn.Module, batches: Iterable[Any], device: torch.device) -> int:
    """The loop of every tutorial."""
    model.train()
    optimizer, loss_of, done = _sgd(model), nn.CrossEntropyLoss(), 0
    for images, labels in batches:
        images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        optimizer.zero_grad()
        loss_of(model(images), labels).backward()
        optimizer.step()
        done += len(images)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return done
