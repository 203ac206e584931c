"""Estimates the time of an epoch from a window of a loop.

A loop is recorded as passes over the data, or over a part of it: when each pass began, and when the step of each batch
ended. The first batches of a pass are its start-up, in which workers start and buffers fill. Then the loop is in steady
state, where the time of a batch is the mean over groups of `period` batches (DataLoader's workers deliver in bursts of
one batch per worker).

    epoch = start-up + batches x time of a batch

If at least three complete passes over all data fit into the window, the estimate is their mean, without extrapolation.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from largeds_native._internal.measure.intervals import relative_mean_interval


@dataclass
class Pass:
    """One pass. done: seconds from its start to the end of each step. waited: seconds spent waiting for each batch.
    images: size of each batch. ended: seconds to the end of the data, if the pass reached it."""

    done: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    images: list[int] = field(default_factory=list)
    ended: float | None = None


@dataclass(frozen=True)
class ThroughputEstimate:
    """start_seconds: time per epoch in addition to the steady batches. spread: half the width of the 95 % interval of a
    batch's time, relative to it. waiting: share of the steady time spent waiting for data."""

    start_seconds: float
    batch_seconds: float
    batch_size: int
    spread: float
    waiting: float
    epoch_seconds: float

    @property
    def images_per_s(self) -> float:
        return self.batch_size / self.batch_seconds


def record_passes(
    batches: Callable[[], Iterable[Any]],
    step: Callable[[Any], int],
    seconds: float,
    *,
    warmup: int,
    min_batches: int = 2,
    finish: Callable[[], object] = lambda: None,
) -> list[Pass]:
    """Repeats `for batch in batches(): step(batch)` until `seconds` are over and there were `min_batches` after a
    warm-up. `step` returns the number of images, `finish` waits for the device."""
    passes: list[Pass] = []
    start, steady = time.perf_counter(), 0
    while True:
        current = Pass()
        passes.append(current)
        started = time.perf_counter()
        iterator: Iterator[Any] = iter(batches())
        while True:
            asked = time.perf_counter()
            batch = next(iterator, None)
            got = time.perf_counter()
            if batch is None:
                current.ended = got - started
                break
            current.images.append(step(batch))
            del batch  # the loader reuses its memory only if nothing refers to it
            finish()
            now = time.perf_counter()
            current.waited.append(got - asked)
            current.done.append(now - started)
            steady += len(current.done) > warmup
            if now - start > seconds and steady >= min_batches:
                return passes
        if time.perf_counter() - start > seconds and (steady >= min_batches or len(passes) > 2):
            return passes


def estimate(
    passes: Sequence[Pass], batch_size: int, images: int, *, warmup: int, period: int = 1
) -> ThroughputEstimate:
    """Estimates an epoch over `images` images from the recorded passes."""
    whole = [p for p in passes[1:] if p.ended is not None and sum(p.images) == images]
    groups, waited, busy = _batch_times(passes, batch_size, warmup, period)
    if not groups:  # there is no full batch after the warm-up: use whole passes
        chosen = whole or list(passes)
        groups = [(p.ended or p.done[-1]) * batch_size / max(sum(p.images), 1) for p in chosen]
        waited, busy = sum(sum(p.waited) for p in chosen), sum(p.ended or p.done[-1] for p in chosen)
    batch, start = statistics.fmean(groups), _start_up(passes, warmup)
    epoch, spread = start + images / batch_size * batch, relative_mean_interval(groups)
    if len(whole) >= 3:
        seconds = [p.ended or 0.0 for p in whole]
        epoch, spread = statistics.fmean(seconds), relative_mean_interval(seconds)
    return ThroughputEstimate(start, batch, batch_size, spread, waited / busy if busy else 0.0, epoch)


def _batch_times(passes: Sequence[Pass], batch_size: int, warmup: int, period: int) -> tuple[list[float], float, float]:
    """(seconds per full batch, averaged over each group; seconds of waiting; total seconds), all after the warm-up."""
    groups: list[float] = []
    waited = busy = 0.0
    for one in passes:
        full = [i for i, n in enumerate(one.images) if n == batch_size and i >= warmup]
        for low in range(0, len(full) - period + 1, period):
            first, last = full[low], full[low + period - 1]
            groups.append((one.done[last] - (one.done[first - 1] if first else 0.0)) / period)
        waited += sum(one.waited[i] for i in full)
        busy += sum(one.done[i] - (one.done[i - 1] if i else 0.0) for i in full)
    return groups, waited, busy


def _start_up(passes: Sequence[Pass], warmup: int) -> float:
    """Seconds that a pass waits in its first `warmup` batches beyond the usual wait. Only waiting counts, since a slow
    step is not part of the start-up."""
    usual = sum(one.waited[i] for one in passes for i in range(warmup, len(one.waited)))
    usual /= max(1, sum(max(0, len(one.waited) - warmup) for one in passes))
    later = passes[len(passes) > 1 :]  # the first pass also warms up the process
    starts = [sum(p.waited[:warmup]) - warmup * usual for p in later if len(p.done) > warmup]
    return max(0.0, statistics.median(starts)) if starts else 0.0
