"""The demo's training: a small CNN on handwritten digits."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from largeds_native.loading import Loader
from largeds_native.opening import open_store
from largeds_native.trainer import Callback, Trainer
from largeds_native.transform import Augment

if TYPE_CHECKING:
    from largeds_native.store import Store
    from largeds_native.trainer.callbacks import TrainingRun
    from largeds_native.trainer.step_result import StepResult

BATCH, ACCUMULATE = 32, 2
SAVED_EVERY = 20  # optimizer steps


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


class KilledAt(Callback):
    """Ends the process without a chance to save anything, as the kernel does where memory runs out."""

    def __init__(self, step: int) -> None:
        self._left = step

    def on_step(self, trainer: TrainingRun, result: StepResult) -> None:
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)


def train_until_killed(store: Path, run: Path, step: int, **kwargs: Any) -> None:
    """Begins the run in a process of its own, which kills itself at this optimizer step."""
    arguments = (store, run, step, kwargs)
    process = multiprocessing.get_context("spawn").Process(target=_train_until_killed, args=arguments)
    process.start()
    process.join()


def _train_until_killed(store: Path, run: Path, step: int, kwargs: dict[str, Any]) -> None:
    with open_store(store) as opened:
        train(opened, run, callbacks=[KilledAt(step)], progress=False, **kwargs)


def steps_an_epoch(store: Store) -> int:
    return -(-(len(store) - len(store) // 5) // (BATCH * ACCUMULATE))


def train(
    store: Store,
    run: Path,
    *,
    epochs: int,
    seed: int,
    threads: int,
    progress: bool,
    callbacks: Sequence[Callback] = (),
) -> Trained:
    """Trains on four fifths of the store, chosen by `seed`, and measures the accuracy on the rest. run: the folder of
    checkpoints, from which a run that ended early goes on."""
    start = time.perf_counter()
    drawn = torch.randperm(len(store), generator=torch.Generator().manual_seed(seed)).numpy()
    held_out, training = drawn[: len(drawn) // 5], drawn[len(drawn) // 5 :]
    mean, std = store.statistics
    normal: dict[str, Any] = {"mean": mean, "std": std, "threads": threads}
    with torch.random.fork_rng(devices=[]):  # the caller's random state is not changed
        torch.manual_seed(seed)
        model = network()
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
        steps = epochs * steps_an_epoch(store)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=8e-3, total_steps=steps)
        trainer = Trainer(
            model,
            optimizer,
            nn.CrossEntropyLoss(),
            accumulate=ACCUMULATE,
            scheduler=schedule,
            scheduler_by="step",
            metrics={"accuracy": accuracy},
            checkpoint_dir=run,
            checkpoint_every=SAVED_EVERY,
            progress=progress,
            callbacks=callbacks,
        )
        augment = Augment(random_crop=8, padding=1)
        train_loader = Loader(store, BATCH, shuffle=True, seed=seed, indices=training, augment=augment, **normal)
        held_out_loader = Loader(store, 256, indices=held_out, **normal)
        try:
            trainer.fit(train_loader, epochs)
            result = trainer.evaluate(held_out_loader)
        finally:
            train_loader.close()
            held_out_loader.close()
    return Trained(result["accuracy"], len(held_out), time.perf_counter() - start)
