"""How much of the processors other programs take while something is measured."""

from __future__ import annotations

import os
from pathlib import Path

MUCH = 0.1  # of the processors; less changes no figure beyond its spread
STAT = Path("/proc/stat")


class Contention:
    """Counts from its making on. Processes that this one has started count as its own when they have ended."""

    def __init__(self) -> None:
        self._started = _now()

    def share(self) -> float | None:
        """The part that others took of the processors that this process may use, 0 to 1; None where the system does not
        tell."""
        started, now = self._started, _now()
        if started is None or now is None or now[1] <= started[1]:
            return None
        busy, total, own = (b - a for a, b in zip(started, now, strict=True))
        return min(1.0, max(0.0, (busy - own) / total))


def warning(share: float | None) -> str:
    """A sentence for those who read the figures; "" if the machine was quiet."""
    if share is None or share < MUCH:
        return ""
    return (
        f"Other programs took {share:.0%} of the processors meanwhile: on a quiet machine, the figures are higher, and "
        "others may be ahead. Measure again then."
    )


def _now() -> tuple[float, float, float] | None:
    """Seconds that our processors worked for anybody, all their seconds, and those that they worked for us."""
    try:
        chosen = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        lines = [line.split() for line in STAT.read_text().splitlines()]
        # user, nice, system, idle, iowait, irq, softirq, steal; the rest is in the first two
        times = [list(map(int, line[1:9])) for line in lines if line and line[0] in chosen]
    except (OSError, ValueError, AttributeError):
        return None
    tick = os.sysconf("SC_CLK_TCK")
    total = sum(map(sum, times)) / tick
    idle = sum(line[3] + line[4] for line in times) / tick
    return total - idle, total, sum(os.times()[:4])
