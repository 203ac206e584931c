"""An epoch's time from a window of it.

A loop is watched as passes over (a part of) the data: when each pass began, when each of its batches was done with.
The first batches of a pass are its start-up: workers begin, buffers fill. After them the loop is in steady state, and
the time of a batch is the mean over groups of `period` batches (DataLoader's workers deliver in bursts,
one batch each).

    epoch = start-up + batches x time of a batch

Where whole passes over the whole data fit into the window, their mean is the answer, and nothing is extrapolated.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

# quantiles of Student's t for 95 %, by degrees of freedom
STUDENT = {3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36}


@dataclass
class Pass:
    """One pass: seconds from its begin to the end of each batch's step, and those spent waiting for each batch."""

    done: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    images: list[int] = field(default_factory=list)
    ended: float | None = None  # seconds to the end of the data, where it was reached


@dataclass(frozen=True)
class Steady:
    """start_seconds: once an epoch, beyond the steady rate. spread: half the 95 % interval of a batch's time, as a
    share of it. waiting: share of the steady time spent waiting for data."""

    start_seconds: float
    batch_seconds: float
    batch_size: int
    spread: float
    waiting: float
    epoch_seconds: float

    @property
    def images_per_s(self) -> float:
        return self.batch_size / self.batch_seconds


def watch(
    epoch: Callable[[], Iterable[Any]],
    step: Callable[[Any], int],
    seconds: float,
    *,
    warmup: int,
    least: int = 2,
    finish: Callable[[], object] = lambda: None,
) -> list[Pass]:
    """Passes of `for batch in epoch(): step(batch)` until `seconds` are over, and `least` batches came after the
    warm-up; `step` returns the number of images, `finish` waits for a device."""
    passes: list[Pass] = []
    start, steady = time.perf_counter(), 0
    while True:
        current = Pass()
        passes.append(current)
        begin = time.perf_counter()
        iterator: Iterator[Any] = iter(epoch())
        while True:
            asked = time.perf_counter()
            batch = next(iterator, None)
            got = time.perf_counter()
            if batch is None:
                current.ended = got - begin
                break
            current.images.append(step(batch))
            del batch  # a slot of the ring is used again only when nothing refers to it
            finish()
            now = time.perf_counter()
            current.waited.append(got - asked)
            current.done.append(now - begin)
            steady += len(current.done) > warmup
            if now - start > seconds and steady >= least:
                return passes
        if time.perf_counter() - start > seconds and (steady >= least or len(passes) > 2):
            return passes


def estimate(passes: Sequence[Pass], batch_size: int, images: int, *, warmup: int, period: int = 1) -> Steady:
    """An epoch over `images` images, from the passes that were watched."""
    whole = [p for p in passes[1:] if p.ended is not None and sum(p.images) == images]
    groups: list[float] = []
    waited = busy = 0.0
    for one in passes:
        full = [i for i, n in enumerate(one.images) if n == batch_size and i >= warmup]
        for low in range(0, len(full) - period + 1, period):
            first, last = full[low], full[low + period - 1]
            groups.append((one.done[last] - (one.done[first - 1] if first else 0.0)) / period)
        waited += sum(one.waited[i] for i in full)
        busy += sum(one.done[i] - (one.done[i - 1] if i else 0.0) for i in full)
    if not groups:  # less than a batch an epoch: a pass is a batch
        chosen = whole or list(passes)
        groups = [(p.ended or p.done[-1]) * batch_size / max(sum(p.images), 1) for p in chosen]
        waited, busy = sum(sum(p.waited) for p in chosen), sum(p.ended or p.done[-1] for p in chosen)
    batch = statistics.fmean(groups)
    usual = sum(one.waited[i] for one in passes for i in range(warmup, len(one.waited)))
    usual /= max(1, sum(max(0, len(one.waited) - warmup) for one in passes))
    # of waiting alone: what the step takes varies, and is no start-up
    starts = [sum(p.waited[:warmup]) - warmup * usual for p in passes[len(passes) > 1 :] if len(p.done) > warmup]
    start = max(0.0, statistics.median(starts)) if starts else 0.0
    epoch, spread = start + images / batch_size * batch, relative_interval(groups)
    if len(whole) >= 3:
        seconds = [p.ended or 0.0 for p in whole]
        epoch, spread = statistics.fmean(seconds), relative_interval(seconds)
    return Steady(start, batch, batch_size, spread, waited / busy if busy else 0.0, epoch)


def relative_interval(values: Sequence[float]) -> float:
    """Half the 95 % interval of the mean, as a share of it. Neighbours are alike, so means of up to 8 runs of them
    count. Of two or three values, half of what lies between the outer ones; of one, nothing is known: NaN."""
    count = min(8, len(values))
    if count < 2:
        return math.nan
    if count < 4:
        return (max(values) - min(values)) / 2 / statistics.fmean(values)
    cuts = [round(i * len(values) / count) for i in range(count + 1)]
    means = [statistics.fmean(values[low:high]) for low, high in itertools.pairwise(cuts)]
    error = statistics.stdev(means) / math.sqrt(count)
    return STUDENT[count - 1] * error / statistics.fmean(values)
