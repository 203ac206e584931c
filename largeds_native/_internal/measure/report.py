"""Reports of measurements: tables, JSON, and facts about the machine."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import rich.box
from rich.table import Table

from largeds_native._internal.machine import usable_threads
from largeds_native._internal.measure.rounds import Measured, Role, ratio

STYLES: dict[Role, str] = {"ours": "bold", "limit": "dim", "reference": "dim", "peer": ""}


def machine_facts(cache: str = "warm") -> dict[str, str]:
    """Facts that belong to a figure: processor, threads, memory, library versions, and the state of the page cache."""
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
    """A rich table: median, spread, and the ratio to `relative_to` (default: the slowest peer)."""
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
        label = f"limit: {m.name}" if m.role == "limit" else m.name
        cells = (f"{m.median:,.0f}", f"±{m.spread:.0%}", f"{ratio(results, m.name, base):.2f}")
        out.add_row(label, *cells, style=STYLES[m.role])
    return out


def as_json(
    question: str, results: Sequence[Measured], facts: dict[str, str], unit: str = "images/s"
) -> dict[str, Any]:
    """One benchmark as plain data: the question, the machine, and every round of every contender."""
    rows = [asdict(m) | {"median": m.median, "spread": m.spread} for m in results]
    return {"question": question, "unit": unit, "machine": facts, "results": rows}


def write_json(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(content, indent=2) + "\n")
