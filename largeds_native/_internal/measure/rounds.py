"""Contenders take turns over rounds in one process, on the same data, after a warm-up.

The result is a rate for each (the median, and the spread of the rounds) and its ratio to a named one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

# A limit cannot be passed, as the model alone in training; a reference can, as a library that does only a part of the
# work, in its own way.
Role = Literal["ours", "peer", "limit", "reference"]


@dataclass
class Contender:
    """One way to do the work. `run` does it once and returns the number of items; `before` and `after` are not
    timed."""

    name: str
    run: Callable[[], int]
    role: Role = "peer"
    before: Callable[[], object] | None = None
    after: Callable[[], object] | None = None


@dataclass
class Measured:
    """The rates of one contender, in items per second, one a round."""

    name: str
    role: Role
    rates: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.rates)

    @property
    def spread(self) -> float:
        """Half the distance between the slowest and the fastest round, as a share of the median."""
        return (max(self.rates) - min(self.rates)) / 2 / self.median


def take_turns(
    contenders: Sequence[Contender],
    *,
    rounds: int = 5,
    warmup: int = 1,
    progress: Callable[[str], object] | None = None,
) -> list[Measured]:
    """Run every contender once a round; another one starts each round. Warm-up rounds are thrown away."""
    measured = [Measured(c.name, c.role) for c in contenders]
    for turn in range(warmup + rounds):
        order = [(i + turn) % len(contenders) for i in range(len(contenders))]
        for i in order:
            if progress:
                progress(f"{contenders[i].name} ({'warm-up' if turn < warmup else f'{turn - warmup + 1}/{rounds}'})")
            rate = _rate(contenders[i])
            if turn >= warmup:
                measured[i].rates.append(rate)
    return measured


def _rate(contender: Contender) -> float:
    if contender.before:
        contender.before()
    start = time.perf_counter()
    items = contender.run()
    seconds = time.perf_counter() - start
    if contender.after:
        contender.after()
    return items / seconds


def processor_seconds(contenders: Sequence[Contender], rounds: int) -> dict[str, float]:
    """Median CPU time of this process for each contender, over rounds in turn. Other programs disturb CPU time less
    than wall time. It says nothing about contenders that work in other processes."""
    taken: dict[str, list[float]] = {one.name: [] for one in contenders}
    for _ in range(rounds):
        for one in contenders:
            if one.before:
                one.before()
            start = time.process_time()
            one.run()
            taken[one.name].append(time.process_time() - start)
    return {name: statistics.median(times) for name, times in taken.items()}


def rate_within(run: Callable[[], int], seconds: float) -> float:
    """Items per second of `run`, which returns the number of items, called again until `seconds` are over.

    The first call is a warm-up; after it `run` is called at least once."""
    run()
    items, start = 0, time.perf_counter()
    while (now := time.perf_counter()) - start < seconds or not items:
        items += run()
    return items / (max(now, time.perf_counter()) - start)


def ratio(results: Sequence[Measured], of: str, to: str) -> float:
    """How many times as fast `of` is as `to`: the ratio of their medians."""
    by_name = {m.name: m for m in results}
    return by_name[of].median / by_name[to].median
