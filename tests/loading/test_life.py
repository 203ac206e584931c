"""Threads, memory and file descriptors of a loader: several iterators, forks, exits."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import largeds_native as lds
from largeds_native.errors import ArgumentError
from tests.loading.epochs import labels_of

ROOT = Path(__file__).parents[2]


def tasks() -> int:
    return len(os.listdir("/proc/self/task"))


def handles() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_nothing_is_left_behind(store: Any) -> None:
    labels_of(lds.Loader(store, 10))  # what stays for good is there now
    gc.collect()
    before = tasks(), handles()
    for _ in range(20):
        loader = lds.Loader(store, 10, threads=3)
        for _ in loader:
            break
        next(iter(loader))
        abandoned = iter(loader)
        del abandoned, loader
    with lds.Loader(store, 10) as loader:
        iterator = iter(loader)
        next(iterator)
    gc.collect()
    assert (tasks(), handles()) == before
    with pytest.raises(ArgumentError, match="closed during"):
        next(iterator)
    with pytest.raises(ArgumentError, match="closed"):
        iter(loader)


def test_two_iterators_do_not_disturb_each_other(store: Any) -> None:
    loader = lds.Loader(store, 16, shuffle=True)
    expected = [labels_of(loader), labels_of(loader)]
    loader.set_epoch(0)
    pairs = list(zip(loader, loader, strict=True))
    assert [a[1].tolist() for a, _ in pairs] == expected[0]
    assert [b[1].tolist() for _, b in pairs] == expected[1]


def test_an_ended_iterator_stays_ended(store: Any) -> None:
    iterator = iter(lds.Loader(store, 60))
    assert len(list(iterator)) == 2
    assert next(iterator, None) is None
    assert next(iterator, None) is None


def test_batches_are_made_while_python_holds_the_gil(store: Any) -> None:
    loader = lds.Loader(store, 10, prefetch=5)
    iterator = iter(loader)
    deadline = time.monotonic() + 20
    while loader.stats()["ready"] < 5 and time.monotonic() < deadline:
        pass  # this thread never lets the GIL go for long
    assert loader.stats()["ready"] == 5
    next(iterator)


def test_a_forked_child_iterates_again(store: Any) -> None:
    loader = lds.Loader(store, 10, threads=2)
    iterator = iter(loader)
    kept = next(iterator)
    child = os.fork()
    if child == 0:
        try:
            code = 1
            kept_sum = int(kept[1].sum())
            loader.set_epoch(0)
            labels = sum(labels_of(loader), [])
            try:
                next(iterator)
            except ArgumentError as error:
                code = 0 if sorted(labels) == list(range(100)) and "forked" in str(error) and kept_sum >= 0 else 2
            del kept, iterator, loader
            gc.collect()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert len(list(iterator)) == 9


ENDS = ["between batches", "with a batch kept", "by an exception", "with a thread that waits"]


@pytest.mark.parametrize("end", ENDS)
def test_the_interpreter_ends_at_once(store: Any, end: str) -> None:
    command = [sys.executable, "-m", "tests.programs.end_with_a_loader", str(store.path), end]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    if "thread" not in end:  # that thread is told, as far as the interpreter still prints it
        assert done.stderr == ""
