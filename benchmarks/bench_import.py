"""What does `import largeds_native` cost beyond torch's own import? (target: at most 100 ms)

New processes take turns: torch alone; then, in a process with torch, the package, and all its public names and the
core. Each measures the time of its own import statement. `python -X importtime` shows the details.
"""

from __future__ import annotations

import datetime
import statistics
import subprocess
import sys
from pathlib import Path

from harness import RESULTS, console, options_parser
from rich.table import Table

from largeds_native._internal.measure import machine_facts, write_json

LIMIT = 0.1
PACKAGE = "import torch and largeds_native"
# what to import -> (statement before, statement that is timed)
QUESTIONS = {
    "torch alone": ("", "import torch"),
    PACKAGE: ("", "import torch, largeds_native"),
    "largeds_native, after torch": ("import torch", "import largeds_native"),
    "all public names and the core, after torch": (
        "import torch",
        "from largeds_native import *; from largeds_native import _C",
    ),
}


def seconds(before: str, statement: str) -> float:
    """The time of the statement in a new process."""
    code = f"import time\n{before}\nstart = time.perf_counter()\n{statement}\nprint(time.perf_counter() - start)"
    command, root = [sys.executable, "-c", code], Path(__file__).parent.parent
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    return float(done.stdout)


def main(rounds: int) -> None:
    times: dict[str, list[float]] = {name: [] for name in QUESTIONS}
    for turn in range(rounds + 1):
        for name, question in QUESTIONS.items():
            taken = seconds(*question)
            if turn:  # the first round warms the page cache
                times[name].append(taken)
    table = Table(title="Importing", title_justify="left")
    for column in ("", "ms", "slowest", "fastest"):
        table.add_column(column, justify="left" if not column else "right")
    for name, all_taken in times.items():
        shown = (statistics.median(all_taken), max(all_taken), min(all_taken))
        table.add_row(name, *(f"{1000 * one:,.1f}" for one in shown))
    console.print(table)
    cost = statistics.median(times["largeds_native, after torch"])
    console.print(
        f"target: at most {1000 * LIMIT:.0f} ms beyond torch: {'reached' if cost <= LIMIT else 'NOT reached'}"
    )
    content = {"question": "What does import cost?", "unit": "seconds", "machine": machine_facts(), "results": times}
    write_json(RESULTS / "import.json", content | {"date": datetime.date.today().isoformat()})


if __name__ == "__main__":
    main(options_parser(__doc__).parse_args().rounds)
