"""Measuring speeds side by side: contenders take turns over rounds in one process, on the same data, after a warm-up.

What comes out is a rate for each (median, and the spread of the rounds) and its ratio to a named one, with the machine
written beside it. Used by `benchmarks/`, `largeds demo` and `largeds bench`.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rich.box
from rich.table import Table

from largeds_native._internal.machine import usable_threads

Role = Literal["ours", "peer", "limit"]


@dataclass
class Contender:
    """One way to do the work. `run` does it once and returns how many items it did; `before`, `after` are not timed."""

    name: str
    run: Callable[[], int]
    role: Role = "peer"
    before: Callable[[], object] | None = None
    after: Callable[[], object] | None = None


@dataclass
class Measured:
    """The rates of one contender, items per second, a round each."""

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
    """Run every contender once a round, the first one changing from round to round; warm-up rounds are thrown away."""
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


def ratio(results: Sequence[Measured], of: str, to: str) -> float:
    """How many times as fast `of` is as `to`: the ratio of their medians."""
    by_name = {m.name: m for m in results}
    return by_name[of].median / by_name[to].median


def forget(paths: Iterable[str | os.PathLike[str]]) -> None:
    """Write back and drop files from the page cache, for reads that must reach the disk."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def machine_facts(cache: str = "warm") -> dict[str, str]:
    """What a figure needs beside it: processor, threads, memory, library versions, and the state of the page cache."""
    import torch

    from largeds_native import _C

    facts = {
        "processor": _processor(),
        "threads": str(usable_threads()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "page cache": cache,
    }
    versions: Callable[[], dict[str, str]] | None = getattr(_C, "codec_versions", None)
    return facts | ({name: str(version) for name, version in versions().items()} if versions else {})


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    values = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = values.get("flags", values.get("Features", "")).split()
    simd = next((name for flag, name in SIMD_LEVELS if flag in flags), "")
    return " ".join(filter(None, (values.get("model name", platform.machine()), simd and f"({simd})")))


SIMD_LEVELS = (("avx512bw", "AVX-512"), ("avx2", "AVX2"), ("asimd", "NEON"))


def table(
    title: str, results: Sequence[Measured], *, unit: str = "images/s", relative_to: str | None = None, note: str = ""
) -> Table:
    """A rich table: median, spread, and the ratio to `relative_to` (the slowest peer where not given)."""
    base = relative_to or min((m for m in results if m.role == "peer"), key=lambda m: m.median, default=results[0]).name
    out = Table(
        title=title,
        caption=note or None,
        title_justify="left",
        caption_justify="left",
        box=rich.box.SIMPLE_HEAD,
    )
    out.add_column("")
    out.add_column(unit, justify="right")
    out.add_column("spread", justify="right")
    out.add_column(f"x {base}", justify="right")
    for m in results:
        style = {"ours": "bold", "limit": "dim", "peer": ""}[m.role]
        label = f"limit: {m.name}" if m.role == "limit" else m.name
        out.add_row(label, f"{m.median:,.0f}", f"±{m.spread:.0%}", f"{ratio(results, m.name, base):.2f}", style=style)
    return out


def as_json(
    question: str, results: Sequence[Measured], facts: dict[str, str], unit: str = "images/s"
) -> dict[str, Any]:
    """One benchmark as plain data: what was asked, the machine, and every round of every contender."""
    rows = [asdict(m) | {"median": m.median, "spread": m.spread} for m in results]
    return {"question": question, "unit": unit, "machine": facts, "results": rows}


def write_json(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(content, indent=2) + "\n")
