"""The work of a loop for each batch: a training step, or nothing."""

from __future__ import annotations

import time
from typing import Any, Protocol

import torch
from torch import nn

from largeds_native.profile.classifier import ClassLoss


class Workload(Protocol):
    """Called with a batch, returns its number of images. seconds: time of the last step alone, if it was timed."""

    seconds: float

    def __call__(self, batch: Any) -> int: ...

    def finish(self) -> None:
        """Waits for the device."""


class NoWork:
    """Only reads a value of the batch, to measure the loader alone."""

    seconds = 0.0

    def __call__(self, batch: Any) -> int:
        images = batch[0]
        images[(0,) * images.dim()].item()
        return len(images)

    def finish(self) -> None: ...


class TrainingStep:
    """Forward, backward and optimizer step, as in a plain loop. It changes the weights of `model`."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.model, self.device = model.to(device).train(), device
        self.optimizer = torch.optim.AdamW(model.parameters(), 1e-6)  # small, so that weights stay finite
        self.loss = ClassLoss()
        self.seconds = 0.0

    def __call__(self, batch: Any) -> int:
        images = batch[0].to(self.device, non_blocking=True)
        labels = batch[1] if len(batch) > 1 else torch.zeros(len(images), dtype=torch.int64)
        self.loss(self.model(images), labels.to(self.device, non_blocking=True)).backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return len(images)

    def finish(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def images_per_s(self, batch: Any, seconds: float) -> float:
        """The rate of repeated steps on one batch. The first step is not counted."""
        if not self.seconds:
            self.run_timed(batch)
        steps, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds or not steps:
            self.run_timed(batch)
            steps += 1
        return steps * len(batch[0]) / (time.perf_counter() - start)

    def run_timed(self, batch: Any) -> None:
        start = time.perf_counter()
        self(batch)
        self.finish()
        self.seconds = time.perf_counter() - start
