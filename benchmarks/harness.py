"""Shared by all benchmarks: options, a table, and JSON in results/. largeds_native._internal.measure measures.

from harness import arguments, report
from largeds_native._internal.measure import Contender, take_turns

options = arguments(__doc__)
results = take_turns([Contender("ours", run, "ours"), Contender("torchvision", peer)], rounds=options.rounds)
report("pack", "Packing 224x224 from JPEG", results, relative_to="torchvision", target=1.3, of="ours")
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

sys.path.insert(0, str(Path(__file__).parent.parent))  # run from a checkout without installing

from largeds_native._internal.machine import usable_threads
from largeds_native._internal.measure import Measured, as_json, machine_facts, ratio, table, write_json

# where a checkout must not be written to, as by `make gpu-check`, another folder
RESULTS = Path(os.environ.get("LARGEDS_RESULTS", Path(__file__).parent / "results"))
console = Console()


def options_parser(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds after the warm-up (5)")
    parser.add_argument("--threads", type=int, default=usable_threads(), help="threads or workers of every contender")
    return parser


def arguments(description: str | None) -> argparse.Namespace:
    return options_parser(description).parse_args()


def report(
    name: str,
    question: str,
    results: Sequence[Measured],
    *,
    unit: str = "images/s",
    relative_to: str | None = None,
    of: str | None = None,
    target: float | None = None,
    cache: str = "warm",
    extra: dict[str, Any] | None = None,
) -> None:
    """Print the table with the machine under it, and write results/<name>.json.

    With `of` and `target`, also print whether `of` is at least `target` times `relative_to`."""
    facts = machine_facts(cache)
    console.print(table(question, results, unit=unit, relative_to=relative_to, note=", ".join(facts.values())))
    content = as_json(question, results, facts, unit) | {"date": datetime.date.today().isoformat()} | (extra or {})
    if of and relative_to and target:
        reached = ratio(results, of, relative_to)
        content["target"] = {"of": of, "to": relative_to, "at_least": target, "reached": round(reached, 3)}
        verdict = "reached" if reached >= target else "NOT reached"
        console.print(f"target: {of} at least {target:g} times {relative_to}: {reached:.2f}, {verdict}\n")
    write_json(RESULTS / f"{name}.json", content)
