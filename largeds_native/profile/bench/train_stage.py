"""The stage train: training one model with different loaders; the limit is the model with batches in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from largeds_native.loading import Loader
from largeds_native.profile import peers
from largeds_native.profile.bench.candidates import OURS, Candidate
from largeds_native.profile.bench.image_set import ImageSet
from largeds_native.profile.bench.load_stage import exported, files
from largeds_native.profile.classifier import build_classifier, choose_device
from largeds_native.trainer import Trainer

BATCH = 32
ON_CPU = 4 * BATCH  # images per round on a CPU, where a step takes long


def title(model: str) -> str:
    return f"train: {model}, batches of {BATCH}, on {'the CPU' if choose_device(None).type == 'cpu' else 'a GPU'}"


def candidates(images: ImageSet, name: str, stack: ExitStack) -> list[Candidate]:
    device = choose_device(None)
    batch = min(BATCH, images.count)
    count = images.count // batch * batch
    if device.type == "cpu":
        count = min(count, ON_CPU)
    model = build_classifier(name, len(images.store.classes), images.store).to(device)
    loader = stack.enter_context(
        Loader(
            images.store,
            batch,
            shuffle=True,
            indices=range(count),
            mean=peers.MEAN,
            std=peers.STD,
            threads=images.threads,
            device=device,
        )
    )

    def ours() -> int:
        trainer = Trainer(model, _sgd(model), nn.CrossEntropyLoss(), progress=False)
        trainer.fit(loader, 1)
        return count

    def plain(dataset: Any) -> Callable[[], int]:
        some = Subset(dataset, range(count))
        batches = DataLoader(
            some,
            batch,
            shuffle=True,
            num_workers=images.threads,
            persistent_workers=True,
            pin_memory=device.type == "cuda",
        )
        return lambda: _epoch(model, batches, device)

    def alone() -> Callable[[], int]:
        inputs, labels = next(iter(loader))
        batches = [(inputs.clone(), labels.clone())] * (count // batch)
        return lambda: _epoch(model, batches, device)

    return [
        Candidate(OURS, lambda: ours, "ours"),
        Candidate("torchvision + DataLoader", lambda: plain(files(images))),
        Candidate("HDF5 + DataLoader", lambda: plain(peers.HDF5Rows(exported(images)))),
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
