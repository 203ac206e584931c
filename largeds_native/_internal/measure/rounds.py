"""Measures contenders in rounds, in one process, on the same data, after a warm-up; in each round they take turns.

The result is a rate for each contender (the median and the spread over rounds), and its ratio to another one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

# A limit can't be exceeded, such as the model alone in training. A reference can be exceeded, such as a library that
# does only a part of the work, in its own way.
Role = Literal["ours", "peer", "limit", "reference"]


@dataclass
class Contender:
    """One way to do the work. `run` does it once and returns the number of items; `before` and `after` run untimed."""

    name: str
    run: Callable[[], int]
    role: Role = "peer"
    before: Callable[[], object] | None = None
    after: Callable[[], object] | None = None


@dataclass
class Measured:
    """The rates of one contender, in items per second, one per round."""

    name: str
    role: Role
    rates: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.rates)

    @property
    def spread(self) -> float:
        """Half the distance between the slowest and the fastest round, relative to the median."""
        return (max(self.rates) - min(self.rates)) / 2 / self.median


def take_turns(
    contenders: Sequence[Contender],
    *,
    rounds: int = 5,
    warmup: int = 1,
    progress: Callable[[str], object] | None = None,
) -> list[Measured]:
    """Run every contender once per round; each round starts with another one. Warm-up rounds are discarded."""
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
    """Median CPU time of this process for each contender; in each round, they take turns. Other programs disturb CPU
    time less than wall time. It is meaningless for contenders that work in other processes."""
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
    """Items per second of `run`, which returns its number of items and is called repeatedly for `seconds`.

    The first call is a warm-up; after it, `run` is called at least once."""
    run()
    items, start = 0, time.perf_counter()
    while (now := time.perf_counter()) - start < seconds or not items:
        items += run()
    return items / (max(now, time.perf_counter()) - start)


def ratio(results: Sequence[Measured], of: str, to: str) -> float:
    """The ratio of the median rates of `of` and `to`."""
    by_name = {m.name: m for m in results}
    return by_name[of].median / by_name[to].median
