"""Measures a loop for as long as needed, and turns errors of the model into one-line messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from largeds_native.errors import LargedsError
from largeds_native.profile.doctor.results import LoopResult
from largeds_native.profile.doctor.throughput import ThroughputEstimate, estimate, record_passes
from largeds_native.profile.doctor.workload import Workload

T = TypeVar("T")


@dataclass(frozen=True)
class MeasurementPlan:
    """How long to measure a loop. warmup: uncounted batches at the start of a pass. min_batches: smallest number of
    counted batches, regardless of their time. period: number of batches that arrive together, one per worker."""

    seconds: float
    warmup: int
    min_batches: int
    period: int = 1

    def with_workload(self, workload: Workload, batch_seconds: float) -> MeasurementPlan:
        """The plan for a loop with a step after each batch, if loading a batch alone takes `batch_seconds`.

        If the step is much slower than loading, batches wait for the step and no longer arrive in bursts, and a few
        steps suffice."""
        if workload.seconds < 2 * batch_seconds:
            return self
        return MeasurementPlan(self.seconds, 1 if workload.seconds < self.seconds / 8 else 0, 2)

    def measure(
        self, batches: Callable[[], Iterable[Any]], workload: Workload, batch_size: int, images: int
    ) -> ThroughputEstimate:
        """`batches()` starts a pass over the data; `images`: number of images in an epoch."""
        passes = with_short_errors(
            lambda: record_passes(
                batches,
                workload,
                self.seconds,
                warmup=self.warmup,
                min_batches=self.min_batches,
                finish=workload.finish,
            )
        )
        return estimate(passes, batch_size, images, warmup=self.warmup, period=self.period)


def with_short_errors(run: Callable[[], T]) -> T:
    """Calls `run`; errors of the model become a LargedsError with a one-line message."""
    try:
        return run()
    except torch.OutOfMemoryError as error:
        raise LargedsError(f"{error}; try a smaller --batch-size") from None
    except (RuntimeError, ValueError) as error:
        if isinstance(error, LargedsError):
            raise
        raise LargedsError(f"the loop failed: {str(error).splitlines()[0]}") from None


def loop_result(name: str, of: ThroughputEstimate) -> LoopResult:
    return LoopResult(name, of.images_per_s, of.start_seconds, of.epoch_seconds, of.spread, of.waiting)
