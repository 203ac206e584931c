"""What is done with a batch: a training step, or nothing."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import nn

from largeds_native.cli.training import ClassLoss


class Nothing:
    """Touches the batch: the loader's own speed."""

    seconds = 0.0

    def __call__(self, batch: Any) -> int:
        images = batch[0]
        images[(0,) * images.dim()].item()
        return len(images)

    def finish(self) -> None: ...


class TrainingStep:
    """Forward, backward and optimizer, as a plain loop does them. `model` is trained: give one that nobody needs."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.model, self.device = model.to(device).train(), device
        self.optimizer = torch.optim.AdamW(model.parameters(), 1e-6)  # small, so that no weight runs away
        self.loss = ClassLoss()
        self.seconds = 0.0  # of the last step alone

    def __call__(self, batch: Any) -> int:
        images = batch[0].to(self.device, non_blocking=True)
        labels = batch[1] if len(batch) > 1 else torch.zeros(len(images), dtype=torch.int64)
        self.loss(self.model(images), labels.to(self.device, non_blocking=True)).backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return len(images)

    def finish(self) -> None:
        """Without this a GPU would still be at it."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def alone(self, batch: Any, seconds: float) -> float:
        """Images/s on one batch, again and again. The very first step is not counted."""
        if not self.seconds:
            self.timed(batch)
        steps, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds or not steps:
            self.timed(batch)
            steps += 1
        return steps * len(batch[0]) / (time.perf_counter() - start)

    def timed(self, batch: Any) -> None:
        start = time.perf_counter()
        self(batch)
        self.finish()
        self.seconds = time.perf_counter() - start
