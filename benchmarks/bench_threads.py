"""Does the loader use all processors? Images per second of 1, 2, 4, ... threads, two batches at once and one at a time.

Random resized crop 224 and flip to bfloat16, of raw rows of 256x256 and of JPEG rows (shorter side 256, quality 90), in
batches of 64 and of 256. Each line is the rate between the deliveries of two batches, while the loader is the
bottleneck. The limit is that of one thread times the number of threads, up to the processors. "One at a time" fills a
batch only when the one before it is done. All contenders take turns, and have the same store and the same memory.

With --idle, what can be seen on a machine of few processors, too: the core's own threads, with rows that take their
time asleep, so that 16 threads need no 16 processors (benchmarks/idle_threads.cpp).

python benchmarks/bench_threads.py [--rounds 3] [--most 16] [--seconds 0.2] [--idle]
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import console, report

import largeds_native as lds
from largeds_native import _C
from largeds_native._internal.corpus import jpeg_corpus
from largeds_native._internal.machine import usable_threads
from largeds_native._internal.measure import Measured, ratio

BATCHES = (64, 256)
WAYS = {"one at a time": 1, "at once": 0}  # batches
SAMPLES = 200_000  # of an epoch, more than a turn takes
WARMUP = 2  # batches before the start of a turn
REPOSITORY = Path(__file__).parent.parent


@dataclass
class Question:
    """A store and a size of batches: a loader whose pool and way are chosen for each turn."""

    name: str
    title: str
    loader: lds.Loader

    def measure(self, pool: _C.Pool, at_once: int, seconds: float) -> float:
        """Images per second from one delivery to another, for `seconds` or longer and at least three batches. More is
        submitted all the time, so that as much is filled ahead at the end as at the start."""
        self.loader._spec = replace(self.loader._spec, pool=pool, at_once=at_once)  # type: ignore[type-var]
        self.loader.set_epoch(0)
        iterator = iter(self.loader)
        for _ in range(WARMUP):
            next(iterator)
        start, images, batches = time.perf_counter(), 0, 0
        while (now := time.perf_counter()) - start < seconds or batches < 3:
            images += len(next(iterator)[0])
            batches += 1
            now = time.perf_counter()
        return images / (now - start)


def raw_store(folder: Path, n: int = 768) -> Any:
    path = folder / "raw.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (n, 3, 256, 256), np.uint8))
    return lds.open(path)


def jpeg_store(folder: Path, n: int = 96) -> Any:
    files = jpeg_corpus(folder / "files", n)
    return lds.pack(files, folder / "jpeg.lds", codec="jpeg", resize=256, quality=90, progress=False)


def questions(folder: Path) -> list[Question]:
    found = []
    for kind, store in (("raw", raw_store(folder)), ("jpeg", jpeg_store(folder))):
        indices = np.resize(np.arange(len(store)), SAMPLES)
        for batch in BATCHES:
            loader = lds.Loader(
                store,
                batch,
                indices=indices,
                shuffle=True,
                augment=lds.Augment(resized_crop=224, flip=0.5),
                dtype=torch.bfloat16,
                fields=(),
            )
            title = f"{kind} rows, random resized crop 224 and flip to bfloat16, batches of {batch}"
            found.append(Question(f"{kind}_{batch}", title, loader))
    return found


def label(threads: int, way: str) -> str:
    return f"{threads} thread{'s' if threads > 1 else ''}, {way}"


def take_turns(asked: Sequence[Question], threads: Sequence[int], rounds: int, seconds: float) -> list[list[Measured]]:
    pools = {count: _C.Pool(count) for count in threads}
    for question in asked:
        question.measure(pools[threads[-1]], 0, 0.5)  # allocates the memory of batches
    turns = [(count, way) for count in threads for way in WAYS]
    results = [{turn: Measured(label(*turn), "ours") for turn in turns} for _ in asked]
    for number in range(rounds):
        for question, measured in zip(asked, results, strict=True):
            for i in range(len(turns)):
                count, way = turn = turns[(i + number) % len(turns)]
                measured[turn].rates.append(question.measure(pools[count], WAYS[way], seconds))
    return [list(measured.values()) for measured in results]


def with_limits(measured: Sequence[Measured], threads: Sequence[int]) -> list[Measured]:
    """Under the two ways of each number of threads, the rate of one thread times that number, up to the processors."""
    one = max(measured[: len(WAYS)], key=lambda m: m.median)
    lines: list[Measured] = []
    for i, count in enumerate(threads):
        lines += measured[len(WAYS) * i : len(WAYS) * (i + 1)]
        times = min(count, usable_threads())
        lines.append(Measured(f"{times} times one thread", "limit", [rate * times for rate in one.rates]))
    return lines


def summary(question: Question, measured: Sequence[Measured], threads: Sequence[int]) -> None:
    one = label(1, "one at a time")
    for count in threads:
        before, now = (ratio(measured, label(count, way), one) for way in WAYS)
        console.print(
            f"{question.name}: {count} threads {now:.2f} x one thread (limit {min(count, usable_threads())}), "
            f"one batch at a time {before:.2f} x: {now / before:.3f} times as fast"
        )
    console.print()


def idle() -> None:
    """Compiles and runs idle_threads.cpp, with the build of the core's own tests."""
    build = REPOSITORY / "build" / "bench-idle"
    subprocess.run(["cmake", "-S", REPOSITORY / "tests", "-B", build], check=True, stdout=subprocess.DEVNULL)
    target = ["--target", "idle_threads", "-j", str(usable_threads())]
    subprocess.run(["cmake", "--build", build, *target], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([build / "idle_threads"], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="of all contenders (3)")
    parser.add_argument("--most", type=int, default=usable_threads(), help="threads, up to this number")
    parser.add_argument("--seconds", type=float, default=0.2, help="of a turn, at least (0.2)")
    parser.add_argument("--idle", action="store_true", help="only idle_threads.cpp")
    options = parser.parse_args()
    start = time.perf_counter()
    threads = [count for count in (1, 2, 4, 8, 16, 32, 64) if count <= options.most]
    with tempfile.TemporaryDirectory() as where:
        if options.idle:
            idle()
            return
        asked = questions(Path(where))
        for question, measured in zip(asked, take_turns(asked, threads, options.rounds, options.seconds), strict=True):
            one = label(1, "one at a time")
            report(f"threads_{question.name}", question.title, with_limits(measured, threads), relative_to=one)
            summary(question, measured, threads)
            question.loader.close()
    console.print(f"{time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()
