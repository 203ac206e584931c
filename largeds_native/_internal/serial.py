"""Threads of this process in which each of torch's operations runs on one thread.

torch shares every operation of more than 32,768 elements out to its threads, which wait for each other at its end. Over
many short operations, whole images are better shared out: nothing waits, and the threads of other programs on the same
processors do not delay each operation. torch.set_num_threads would change the whole process, so a thread here tells
OpenMP, for itself alone.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from pathlib import Path

import torch

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def run_in_threads(work: Callable[[], object], threads: int) -> None:
    """Calls `work` that many times at once, and waits. `threads` is at most torch.get_num_threads(), of which 1 means
    that operations run on one thread already. The first error is raised."""
    if threads == 1 and torch.get_num_threads() == 1:
        work()
        return
    pool = _pool(torch.get_num_threads())
    calls = [pool.submit(work) for _ in range(threads)]
    try:
        wait(calls)
    finally:  # after Ctrl-C, too: nothing may still write when the caller goes on
        wait(calls)
    for call in calls:
        call.result()


def _pool(threads: int) -> ThreadPoolExecutor:
    """Of this process: a forked child makes its own."""
    key = os.getpid(), threads
    if key not in _pools:
        _pools[key] = ThreadPoolExecutor(threads, "largeds-color", initializer=_use_one_thread)
    return _pools[key]


def _use_one_thread() -> None:
    torch.get_num_threads()  # sets this thread's number for the first time; it must not do that later
    if setter := _omp_set_num_threads():
        setter(1)


@cache
def _omp_set_num_threads() -> Callable[[int], object] | None:
    """OpenMP's function, which is for the calling thread; None for a torch without OpenMP, whose operations share its
    threads then as they always do."""
    try:  # the name is looked up in the libraries that torch's own is linked to
        setter: Callable[[int], object] = ctypes.CDLL(str(_torch_library())).omp_set_num_threads
    except (OSError, AttributeError):
        return None
    return setter


def _torch_library() -> Path:
    return Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
