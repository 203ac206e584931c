"""Compares training loops that take turns within one run, so that noise on the machine affects all of them equally.

Each contender is a training loop in its own thread. It never ends: it blocks when it requests the next batch from its
loader, and waits for its turn. Only one loop runs at a time. In each round every contender trains on a block of
batches, in random order; a ratio is the median over rounds of the ratios within a round, with a bootstrap interval.

The measured time is the process's CPU time, which excludes other processes; so torch must use one thread. On a GPU it
is wall-clock time, with a synchronisation with the device at both ends of a block (`wall_clock_on`). All memory
comes from one heap, which never returns memory to the system; otherwise a contender's time would depend on the heap of
its thread, by about 20 %.
"""

from __future__ import annotations

import ctypes
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from largeds_native._internal.measure.intervals import median_interval

TrainingLoop = Callable[[DataLoader[Any]], None]
Clock = Callable[[], float]  # seconds


class PausedLoop(IterableDataset[Any]):
    """One contender: a loop that trains on the same batch for ever, `block` batches per turn."""

    def __init__(self, loop: TrainingLoop, batch: Any, block: int) -> None:
        self._batch, self._block = batch, block
        self._resume, self._paused = threading.Semaphore(0), threading.Semaphore(0)
        self._ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(loop,), daemon=True)

    def __iter__(self) -> Iterator[Any]:
        while True:
            self._paused.release()
            self._resume.acquire()
            if self._ended:
                return
            for _ in range(self._block):
                yield self._batch

    def _run(self, loop: TrainingLoop) -> None:
        try:
            loop(DataLoader(self, batch_size=None))
        except BaseException as error:
            self._error = error
        self._ended = True
        self._paused.release()

    def start(self) -> None:
        """Run up to the first batch."""
        self._thread.start()
        self._paused.acquire()

    def run_block(self, clock: Clock) -> float:
        """Train on one block, and return the seconds that it took."""
        before = clock()
        self._resume.release()
        self._paused.acquire()
        taken = clock() - before
        if self._ended:
            raise RuntimeError("a training loop ended before its data did") from self._error
        return taken

    def end(self) -> None:
        """End the data, so that the loop returns."""
        self._ended = True
        self._resume.release()
        self._thread.join()


def use_one_heap() -> None:
    """Configure glibc's malloc: one heap for all threads, no mmap for large tensors, no memory returned."""
    m_trim_threshold, m_mmap_max, m_arena_max = -1, -4, -8
    mallopt = ctypes.CDLL(None).mallopt
    for name, value in ((m_arena_max, 1), (m_mmap_max, 0), (m_trim_threshold, 2**31 - 1)):
        mallopt(name, value)


def wall_clock_on(device: str) -> Clock:
    """Wall-clock time at which the device has done all its work."""

    def now() -> float:
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter()

    return now


def time_blocks(
    loops: dict[str, TrainingLoop],
    batch: Any,
    *,
    block: int,
    rounds: int,
    warmup: int = 2,
    clock: Clock = time.process_time,
) -> dict[str, list[float]]:
    """Seconds of each contender's blocks, one per round; of CPU time, unless another clock is given."""
    use_one_heap()
    contenders = {name: PausedLoop(loop, batch, block) for name, loop in loops.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for contender in contenders.values():
        contender.start()
    names, order = list(contenders), random.Random(0)
    for number in range(warmup + rounds):
        order.shuffle(names)
        for name in names:
            taken = contenders[name].run_block(clock)
            if number >= warmup:
                seconds[name].append(taken)
    for contender in contenders.values():
        contender.end()
    return seconds


def time_ratio(seconds: dict[str, list[float]], of: str, to: str) -> tuple[float, float, float]:
    """The time of `of` relative to that of `to`, with its interval: 1.05 is 5 % longer."""
    return median_interval([a / b for a, b in zip(seconds[of], seconds[to], strict=True)])


def fast_ratio(seconds: dict[str, list[float]], of: str, to: str) -> tuple[float, float, float]:
    """The same of the tenth fastest block of a hundred. What else runs on a machine can only add time, and adds least
    to these: where blocks differ by half, as in a virtual machine, this ratio is known better than the median's."""
    both = np.array([seconds[of], seconds[to]])
    drawn = both[:, np.random.default_rng(0).integers(both.shape[1], size=(2000, both.shape[1]))]
    numerator, denominator = np.percentile(drawn, 10, axis=2)
    low, high = np.percentile(numerator / denominator, (2.5, 97.5))
    numerator, denominator = np.percentile(both, 10, axis=1)
    return float(numerator / denominator), float(low), float(high)


def time_difference(seconds: dict[str, list[float]], of: str, to: str) -> tuple[float, float, float]:
    """The seconds by which a block of `of` takes longer than one of `to`, with their interval."""
    return median_interval([a - b for a, b in zip(seconds[of], seconds[to], strict=True)])
