"""If next(loader) is interrupted, no batch is lost or repeated, and the state is that of the delivered batches."""

from __future__ import annotations

import signal
import sys
from typing import Any

import numpy as np
import pytest
import torch

import largeds_native as lds
from largeds_native.errors import ArgumentError
from largeds_native.loading import iterator as iterator_module
from largeds_native.loading import plan as plan_module
from tests.loading.epochs import labels_of


class Interrupt(BaseException):
    """In place of KeyboardInterrupt, which pytest would handle itself."""


def raise_inside(frame: Any) -> None:
    """Raises only in the iterator's own code: a batch that the user's code is about to assign can't be kept."""
    if frame.f_code.co_filename in {iterator_module.__file__, plan_module.__file__}:
        raise Interrupt


def delivered(iterator: Any, loader: Any, size: int, profile: Any = None) -> tuple[list[int], int]:
    """The first label of each batch, and the number of interrupts. The state is checked after each batch."""
    seen, interrupted = [], 0
    while True:
        try:
            sys.setprofile(profile)
            batch = next(iterator, None)
        except Interrupt:
            interrupted += 1
            continue
        finally:
            sys.setprofile(None)
        if batch is None:
            return seen, interrupted
        seen.append(int(batch[-1][0]))
        assert loader.state_dict()["position"] == len(seen) * size
        del batch


@pytest.mark.parametrize(("prefetch", "threads"), [(0, 1), (3, 1), (3, 3)])
def test_a_signal_while_waiting_for_a_batch(store: Any, prefetch: int, threads: int) -> None:
    size = 20_000  # with enlarged images: a batch that is waited for longer than the core looks away from signals
    indices = np.arange(5).repeat(size)
    kwargs: dict[str, Any] = {"augment": lds.Augment(resized_crop=48), "dtype": torch.uint8}
    before = signal.signal(signal.SIGALRM, lambda _, frame: raise_inside(frame))
    interrupted = 0
    try:
        for _ in range(20):  # on a busy machine, a batch may be there before it is waited for
            loader = lds.Loader(store, size, indices=indices, threads=threads, prefetch=prefetch, **kwargs)
            iterator = iter(loader)
            signal.setitimer(signal.ITIMER_REAL, 0.01, 0.02)
            seen, interrupted = delivered(iterator, loader, size)
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert seen == [0, 1, 2, 3, 4]
            if interrupted:
                break
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted


class Profile:
    """Raises an Interrupt at the n-th point at which Python handles signals in the iterator: after a call into C, and
    at the start of a function."""

    def __init__(self, n: int) -> None:
        self.left = n

    def __call__(self, frame: Any, event: str, _: Any) -> None:
        if event in ("call", "c_return"):
            self.left -= self.left == 1 or frame.f_code.co_filename.endswith(("iterator.py", "plan.py"))
            if self.left == 0:
                raise_inside(frame)
                self.left = 1


@pytest.mark.parametrize("options", [{"shuffle": True}, {"order": list(range(20)), "indices": None}, {"prefetch": 0}])
def test_an_interrupt_at_any_moment(store: Any, options: dict[str, Any]) -> None:
    options = {"indices": range(20), "threads": 1} | options
    expected = [batch[0] for batch in labels_of(lds.Loader(store, 5, **options))]
    for n in range(1, 1000):
        loader = lds.Loader(store, 5, **options)
        seen, interrupted = delivered(iter(loader), loader, 5, Profile(n))
        assert seen == expected, n
        if not interrupted:
            break
    assert n > 20


def test_an_error_of_a_sampler_is_raised_at_its_batch(store: Any) -> None:
    loader = lds.Loader(store, 2, order=[1, 2, 3, 4, "five", 6, 7, 8])
    iterator = iter(loader)
    assert [next(iterator)[1].tolist() for _ in range(2)] == [[1, 2], [3, 4]]
    for _ in range(2):  # the epoch does not end here as if it were whole
        with pytest.raises(ArgumentError, match="expected list to give numbers"):
            next(iterator)
    assert loader.state_dict()["position"] == 4


def test_a_batch_that_fails_does_not_shift_the_state(store: Any) -> None:
    loader = lds.Loader(store, 2, order=[1, 2, 500, 3, 4, 5])
    iterator = iter(loader)
    next(iterator)
    with pytest.raises(lds.RowIndexError):
        next(iterator)
    assert loader.state_dict()["position"] == 2
    assert next(iterator)[1].tolist() == [4, 5]
    assert loader.state_dict()["position"] == 6
    assert next(iterator, None) is None


@pytest.mark.parametrize(("prefetch", "threads"), [(0, 1), (2, 1), (4, 4)])
def test_a_storm_of_signals_loses_no_batch(store: Any, prefetch: int, threads: int) -> None:
    """Python may run a handler right after the call that gives a batch, before it is anywhere."""
    loader = lds.Loader(store, 1, threads=threads, prefetch=prefetch)
    before = signal.signal(signal.SIGALRM, lambda _, frame: raise_inside(frame))
    interrupted = 0
    try:
        for _ in range(20):
            iterator = iter(loader)
            signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0002)
            seen, count = delivered_after_storm(iterator)
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert seen == list(range(100))
            interrupted += count
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted


def delivered_after_storm(iterator: Any) -> tuple[list[int], int]:
    seen, interrupted = [], 0
    while True:
        try:
            batch = next(iterator, None)
        except Interrupt:
            interrupted += 1
            continue
        if batch is None:
            return seen, interrupted
        seen.append(int(batch[-1][0]))
