"""Contenders that take turns within one run, some steps at a time, so that a noisy machine disturbs all alike.

Each contender is a training loop of its own in a thread of its own, and never ends: it stops where it asks its loader
for the next batch, until it is its turn again. Only one runs at a time. A round gives each a block of batches, in
random order; a ratio is the median over rounds of the quotients within a round, with a bootstrap interval. The time is
the process's CPU time, which leaves out what other processes take, so torch must be on one thread. Memory comes from
one heap that is never given back: else what a contender takes depends on its thread's heap, by some 20 %.
"""

from __future__ import annotations

import ctypes
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, IterableDataset

Loop = Callable[[DataLoader[Any]], None]


class Turns(IterableDataset[Any]):
    """One contender: a loop that trains on the same batch for ever, `block` batches at a turn."""

    def __init__(self, loop: Loop, batch: Any, block: int) -> None:
        self._batch, self._block = batch, block
        self._go, self._asks = threading.Semaphore(0), threading.Semaphore(0)
        self._ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(loop,), daemon=True)

    def __iter__(self) -> Iterator[Any]:
        while True:
            self._asks.release()
            self._go.acquire()
            if self._ended:
                return
            for _ in range(self._block):
                yield self._batch

    def _run(self, loop: Loop) -> None:
        try:
            loop(DataLoader(self, batch_size=None))
        except BaseException as error:
            self._error = error
        self._ended = True
        self._asks.release()

    def start(self) -> None:
        """Run up to the first batch."""
        self._thread.start()
        self._asks.acquire()

    def turn(self) -> float:
        """CPU seconds of one block."""
        before = time.process_time()
        self._go.release()
        self._asks.acquire()
        taken = time.process_time() - before
        if self._ended:
            raise RuntimeError("a loop ended before its turns did") from self._error
        return taken

    def end(self) -> None:
        """Let the loop run out of data."""
        self._ended = True
        self._go.release()
        self._thread.join()


def one_heap() -> None:
    """glibc's malloc: no heap for each thread, no mmap for large tensors, nothing given back to the system."""
    m_trim_threshold, m_mmap_max, m_arena_max = -1, -4, -8
    mallopt = ctypes.CDLL(None).mallopt
    for name, value in ((m_arena_max, 1), (m_mmap_max, 0), (m_trim_threshold, 2**31 - 1)):
        mallopt(name, value)


def take_turns(
    loops: dict[str, Loop], batch: Any, *, block: int, rounds: int, warm_up: int = 2
) -> dict[str, list[float]]:
    """CPU seconds of each contender's blocks, one a round."""
    one_heap()
    contenders = {name: Turns(loop, batch, block) for name, loop in loops.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for each in contenders.values():
        each.start()
    names, order = list(contenders), random.Random(0)
    for number in range(warm_up + rounds):
        order.shuffle(names)
        for name in names:
            taken = contenders[name].turn()
            if number >= warm_up:
                seconds[name].append(taken)
    for each in contenders.values():
        each.end()
    return seconds


def paired(values: list[float]) -> tuple[float, float, float]:
    """The median of one number a round, and the 95 % bootstrap interval of that median."""
    drawn = np.random.default_rng(0).choice(np.asarray(values), (2000, len(values)))
    low, high = np.percentile(np.median(drawn, axis=1), (2.5, 97.5))
    return statistics.median(values), float(low), float(high)


def quotient(seconds: dict[str, list[float]], of: str, to: str) -> tuple[float, float, float]:
    """How much longer `of` takes than `to`: 1.05 is 5 % longer."""
    return paired([a / b for a, b in zip(seconds[of], seconds[to], strict=True)])


def difference(seconds: dict[str, list[float]], of: str, to: str) -> tuple[float, float, float]:
    """How many seconds a block of `of` takes longer than one of `to`."""
    return paired([a - b for a, b in zip(seconds[of], seconds[to], strict=True)])
