"""The demo's training: a small CNN on handwritten digits."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from largeds_native.store import Store


@dataclass(frozen=True)
class Trained:
    accuracy: float
    images: int
    seconds: float


def network() -> nn.Module:
    """A CNN for 1x8x8 images, with about 100 thousand parameters."""

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    convolutions = [*block(1, 32), *block(32, 32), nn.MaxPool2d(2), *block(32, 64), *block(64, 64), nn.MaxPool2d(2)]
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 2 * 2, 10))


def accuracy(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs.argmax(1) == targets).float().mean()


def train(store: Store, *, epochs: int, seed: int, threads: int, progress: bool) -> Trained:
    """Trains on four fifths of the store, chosen by `seed`, and measures the accuracy on the rest."""
    from largeds_native.loading import Loader
    from largeds_native.trainer import Trainer
    from largeds_native.transform import Augment

    start = time.perf_counter()
    drawn = torch.randperm(len(store), generator=torch.Generator().manual_seed(seed)).numpy()
    held_out, training = drawn[: len(drawn) // 5], drawn[len(drawn) // 5 :]
    mean, std = store.statistics
    normal: dict[str, Any] = {"mean": mean, "std": std, "threads": threads}
    with torch.random.fork_rng(devices=[]):  # the caller's random state is not changed
        torch.manual_seed(seed)
        model = network()
        steps = epochs * -(-len(training) // 64)
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=8e-3, total_steps=steps)
        trainer = Trainer(
            model,
            optimizer,
            nn.CrossEntropyLoss(),
            accumulate=2,
            scheduler=schedule,
            scheduler_by="step",
            metrics={"accuracy": accuracy},
            progress=progress,
        )
        augment = Augment(random_crop=8, padding=1)
        train_loader = Loader(store, 32, shuffle=True, seed=seed, indices=training, augment=augment, **normal)
        held_out_loader = Loader(store, 256, indices=held_out, **normal)
        try:
            trainer.fit(train_loader, epochs)
            result = trainer.evaluate(held_out_loader)
        finally:
            train_loader.close()
            held_out_loader.close()
    return Trained(result["accuracy"], len(held_out), time.perf_counter() - start)
