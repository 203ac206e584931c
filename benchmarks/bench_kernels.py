"""How fast are the kernels of each instruction set? Batches of 256 from raw rows of 3x256x256 in memory.

uint8 rows to uint8, and normalised to floats; and a random resized crop of 192 with flips. Each is beside its limit:
memcpy, or a plain kernel with streaming stores. For the crop, that converts rows of 192x192, which need no resizing.
All take turns. Each set is used by a process of its own, as LARGEDS_SIMD is read once.

python benchmarks/bench_kernels.py [--sets avx2 avx512] [--seconds 0.15] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import RESULTS, console
from limits import Limit
from rich.table import Table

import largeds_native as lds
from largeds_native import _C
from largeds_native._internal.measure import Measured, machine_facts, rate_within, ratio, write_json
from largeds_native.profile import peers

BATCH = 256
CROP = 192
CASES = {
    "uint8": ("uint8", False),
    "float32": ("float32", False),
    "float16": ("float16", False),
    "bfloat16": ("bfloat16", False),
    "crop 192, uint8": ("uint8", True),
    "crop 192, float32": ("float32", True),
}


# ---- in the process of a set -----------------------------------------------------------------------------------
def serve(store: str, seconds: float) -> None:
    """Answers each line [case, threads] with a rate in images/s."""
    loaders: dict[tuple[str, int], Any] = {}
    for line in sys.stdin:
        case, threads = json.loads(line)
        if (case, threads) not in loaders:
            loaders[case, threads] = loader(store, case, threads)
        print(rate_within(partial(one_batch, iter(batches(loaders[case, threads]))), seconds), flush=True)


def loader(store: str, case: str, threads: int) -> Any:
    kind, crop = CASES[case]
    options: dict[str, Any] = {"dtype": getattr(torch, kind), "shuffle": True, "threads": threads}
    if kind != "uint8":
        options |= {"mean": peers.MEAN, "std": peers.STD}
    if crop:
        options["augment"] = lds.Augment(resized_crop=CROP, flip=0.5)
    batch = BATCH if _C.simd() != "scalar" else BATCH // 8  # which takes as long
    return lds.Loader(lds.open(store), batch, **options)


def batches(source: Any) -> Any:
    while True:
        yield from source


def one_batch(source: Any) -> int:
    return len(next(source)[0])


# ---- in the process that measures ------------------------------------------------------------------------------
class Set:
    """The kernels of one instruction set, in a process."""

    def __init__(self, name: str, store: Path, seconds: float) -> None:
        command = [sys.executable, __file__, "--serve", str(store), "--seconds", str(seconds)]
        environment = {**os.environ, "LARGEDS_SIMD": name}
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def rate(self, case: str, threads: int) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([case, threads]) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit("a process of the benchmark ended: its messages are above.")
        return float(answer)

    def __enter__(self) -> Set:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def limits(images: np.ndarray, case: str, threads: int, seconds: float) -> dict[str, Callable[[], float]]:
    """Name -> a measurement, in images/s."""
    kind, crop = CASES[case]
    if crop:
        images = images.reshape(-1)[: len(images) * 3 * CROP * CROP].reshape(-1, 3, CROP, CROP)
    make = partial(Limit, images, BATCH, threads, kind, peers.MEAN, peers.STD)
    fillers = {"memcpy": make(), "streaming copy": make(stream=True)} if kind == "uint8" else {"plain kernel": make()}
    random = np.random.default_rng(1)

    def rate(filler: Limit) -> float:
        def run() -> int:
            filler.fill(random.permutation(len(images))[:BATCH])
            return BATCH

        return rate_within(run, seconds)

    return {name: partial(rate, filler) for name, filler in fillers.items()}


def measured(
    sets: dict[str, Set], images: np.ndarray, case: str, threads: int, o: argparse.Namespace
) -> list[Measured]:
    """The limits and all sets, which take turns. A warm-up round is discarded; the scalar kernels have one round."""
    runs = limits(images, case, threads, o.seconds)
    results = [Measured(name, "limit") for name in runs] + [Measured(name, "ours") for name in sets]
    runs |= {name: partial(one.rate, case, threads) for name, one in sets.items()}
    for turn in range(1 + o.rounds):
        for i in range(len(results)):
            result = results[(i + turn) % len(results)]
            if result.name == "scalar" and turn != 1:
                continue
            rate = runs[result.name]()
            if turn > 0:
                result.rates.append(rate)
    return results


def main(o: argparse.Namespace) -> None:
    console.print(f"the sets of this processor: {', '.join(_C.supported_simd())}; of its limits: -march=native")
    columns = ["memcpy", "streaming copy", "plain kernel", *o.sets]
    shown = Table("images/s", "threads", *columns, f"{o.sets[-1]} / limit", box=None)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder, ExitStack() as stack:
        path = Path(folder) / "256.lds"
        images = np.random.default_rng(0).integers(0, 256, (o.images, 3, 256, 256), np.uint8)
        store = lds.pack((images, np.arange(o.images)), path, resize=None, crop=None, progress=False)
        sets = {name: stack.enter_context(Set(name, path, o.seconds)) for name in o.sets}
        for case in CASES:
            for threads in (1, 2):
                results = measured(sets, np.asarray(store.images), case, threads, o)
                found = {one.name: f"{one.median:,.0f}" for one in results}
                share = ratio(results, o.sets[-1], results[0].name)
                shown.add_row(case, str(threads), *(found.get(name, "") for name in columns), f"{share:.2f}")
                medians = {one.name: {"role": one.role, "rates": one.rates, "median": one.median} for one in results}
                rows.append({"case": case, "threads": threads, "results": medians})
    console.print(shown)
    facts = machine_facts()
    console.print(", ".join(facts.values()))
    write_json(RESULTS / "kernels.json", {"question": "the kernels of each set", "machine": facts, "results": rows})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=_C.supported_simd(), default=_C.supported_simd())
    parser.add_argument("--seconds", type=float, default=0.15, help="of a measurement (0.15)")
    parser.add_argument("--rounds", type=int, default=3, help="measured after a warm-up (3)")
    parser.add_argument("--images", type=int, default=1000, help="of the store (1000: 197 MB)")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.seconds)
    else:
        main(options)
