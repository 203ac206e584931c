"""Measures a loop for as long as it needs, and turns a model's errors into one-line messages."""

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
    """How long to measure a loop. warmup: batches of a pass that are not counted; min_batches: batches to wait for
    after them, however long they take; period: batches that arrive together, one from each worker."""

    seconds: float
    warmup: int
    min_batches: int
    period: int = 1

    def with_workload(self, workload: Workload, batch_seconds: float) -> MeasurementPlan:
        """The plan for a step after each batch, where a batch alone takes `batch_seconds`.

        If the step is much slower than loading, batches wait for the step and no longer arrive in bursts, and a few
        steps suffice."""
        if workload.seconds < 2 * batch_seconds:
            return self
        return MeasurementPlan(self.seconds, 1 if workload.seconds < self.seconds / 8 else 0, 2)

    def measure(
        self, batches: Callable[[], Iterable[Any]], workload: Workload, batch_size: int, images: int
    ) -> ThroughputEstimate:
        """`batches` begins one pass over the data; an epoch has `images`."""
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
    """Call `run`; a model's error about its batches becomes a LargedsError of one line."""
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
