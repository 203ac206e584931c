"""How much time of Python's own does a step of the Trainer take beside the shortest loop by hand?

A GPU waits where Python is slower than its kernels, so the steps a second of a small model are those of Python. No GPU
is needed to measure that: the model has as many parameters as resnet18, 62, of four elements each, on the CPU, and the
Trainer treats the CPU as it treats a GPU, whose numbers are read a step later, and which has checked the gradients when
it is asked whether it has; "always guarded" does not ask (optimizer_step.POLLS). The hand-written loop has a mean loss,
divided by `accumulate`, and does nothing else. All take turns in one run, on one thread; see
largeds_native/_internal/measure/paired_timing.py. Calls of operators are counted, too: on a GPU most of them launch a
kernel, which takes longer there than here, and one on a list of tensors (`_foreach_*`) launches one or two, while the
CPU takes the tensors one by one.

    bench_trainer_python.py [--rounds 300]
"""

from __future__ import annotations

import collections
import contextlib
import datetime
import functools
import statistics
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from bench_trainer import (
    by_accumulator,
    by_guarding_trainer,
    by_trainer,
    by_trainer_with_loader,
    interval,
    shortest_by_hand,
)
from harness import RESULTS, console, options_parser
from rich.table import Table
from torch.utils._python_dispatch import TorchDispatchMode
from trainer_models import ManyParameters

from largeds_native._internal.measure import machine_facts, write_json
from largeds_native._internal.measure.paired_timing import time_blocks, time_difference
from largeds_native.trainer import optimizer_step, readback

STEPS = 5  # of a block
CONTENDERS: dict[str, Callable[..., None]] = {
    "by hand": shortest_by_hand,
    "by hand, again": shortest_by_hand,
    "Accumulator": by_accumulator,
    "Trainer": by_trainer,
    "with a Loader, always guarded": by_guarding_trainer,
    "Trainer with a Loader": by_trainer_with_loader,
}


def cpu_as_a_gpu() -> contextlib.ExitStack:
    """A device that waits for Python: it is done with all that it was given when it is asked."""

    def known_to_be_right(numbers: readback.Readback) -> bool:
        return optimizer_step.POLLS > 0 and numbers.read()[-1] == 0

    stack = contextlib.ExitStack()
    stack.enter_context(mock.patch.object(readback, "DEFERRED", frozenset({"cpu"})))
    stack.enter_context(mock.patch.object(optimizer_step, "_known_to_be_right", known_to_be_right))
    return stack


class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the calls of operators, without views, which launch nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: collections.Counter[str] = collections.Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view:
            self.calls[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def calls_of_a_step(loop: Callable[..., None], batch: Any, accumulate: int) -> dict[str, int]:
    """By name, in a step that is neither the first nor the last."""
    counts = []
    for steps in (4, 5):
        with Counter() as counter:
            loop(ManyParameters(), [batch] * (steps * accumulate), accumulate)
        counts.append(counter.calls)
    return dict(counts[1] - counts[0])


def measure(accumulate: int, rounds: int) -> dict[str, Any]:
    """Print a table, and return the content of the JSON file."""
    batch = (torch.randn(4, 4), torch.randint(4, (4,)))
    counts = {name: calls_of_a_step(loop, batch, accumulate) for name, loop in CONTENDERS.items()}
    loops: dict[str, Callable[[Any], None]] = {
        name: functools.partial(loop, ManyParameters(), accumulate=accumulate) for name, loop in CONTENDERS.items()
    }
    seconds = time_blocks(loops, batch, block=STEPS * accumulate, rounds=rounds)
    table = Table(title=f"62 small parameters, accumulate={accumulate}, {rounds} rounds of {STEPS} steps, CPU time")
    for column in ("", "µs a step", "µs a step more, 95 %", "calls of operators a step"):
        table.add_column(column, justify="right" if column else "left")
    rows = []
    for name in CONTENDERS:
        step = 1e6 * statistics.median(seconds[name]) / STEPS
        more = tuple(1e6 * value / STEPS for value in time_difference(seconds, name, "by hand"))
        table.add_row(name, f"{step:.0f}", interval(more, 0), str(sum(counts[name].values())))
        beyond = dict(collections.Counter(counts[name]) - collections.Counter(counts["by hand"]))
        rows.append({"name": name, "us": step, "us_more": more, "calls_beyond": beyond})
    console.print(table)
    console.print("calls of the Trainer that the loop by hand does not make:", rows[-1]["calls_beyond"])
    return {"name": f"Python's time, accumulate={accumulate}", "steps": STEPS, "results": rows}


def main() -> None:
    parser = options_parser(__doc__)
    parser.set_defaults(rounds=300)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with cpu_as_a_gpu():
        for accumulate in (1, 4):
            content = measure(accumulate, options.rounds)
            content |= {"machine": machine_facts(), "unit": "CPU time, one thread"}
            content |= {"date": datetime.date.today().isoformat()}
            write_json(RESULTS / f"trainer-python-accumulate-{accumulate}.json", content)


if __name__ == "__main__":
    main()
