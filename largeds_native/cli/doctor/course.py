"""Watching a loop for as long as it needs, and what a model does not like said in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from largeds_native.cli.doctor.findings import Loop
from largeds_native.cli.doctor.steady import Steady, estimate, watch
from largeds_native.errors import LargedsError


@dataclass(frozen=True)
class Course:
    """How long to watch a loop: seconds, batches of start-up, batches at least after it, batches in a burst."""

    seconds: float
    warmup: int
    least: int
    period: int = 1

    def beside(self, work: Any, batch_seconds: float) -> Course:
        """With a step that takes longer than the batches do, these wait: there are no bursts, and a few steps tell."""
        if work.seconds < 2 * batch_seconds:
            return self
        return Course(self.seconds, 1 if work.seconds < self.seconds / 8 else 0, 2)

    def steady(self, batches: Callable[[], Any], work: Any, batch_size: int, images: int) -> Steady:
        passes = guarded(
            lambda: watch(batches, work, self.seconds, warmup=self.warmup, least=self.least, finish=work.finish)
        )
        return estimate(passes, batch_size, images, warmup=self.warmup, period=self.period)


def guarded(run: Callable[[], Any]) -> Any:
    """What a model does not like about its batches, as a sentence."""
    try:
        return run()
    except torch.OutOfMemoryError as error:
        raise LargedsError(f"{error}; try a smaller --batch-size") from None
    except (RuntimeError, ValueError) as error:
        if isinstance(error, LargedsError):
            raise
        raise LargedsError(f"the loop failed: {str(error).splitlines()[0]}") from None


def loop_of(name: str, found: Steady) -> Loop:
    return Loop(name, found.images_per_s, found.start_seconds, found.epoch_seconds, found.spread, found.waiting)
