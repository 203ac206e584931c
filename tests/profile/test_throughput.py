"""Estimates of the time of an epoch, for loops with a known time."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from largeds_native.profile.doctor.throughput import Pass, estimate, record_passes


def simulated(waits: list[float], step: float, size: int, ended: bool = False) -> Pass:
    done = np.cumsum(np.asarray(waits) + step).tolist()
    return Pass(done, waits, [size] * len(waits), done[-1] if ended else None)


def test_an_epoch_is_its_start_and_its_batches() -> None:
    """A worker takes 2 s to start, then each batch 0.5 s, of which 0.1 s is the step."""
    waits = [2.0, 0.0, 0.4, *[0.4] * 30]
    found = estimate([simulated(waits, 0.1, 8)], 8, 8000, warmup=3)
    assert found.batch_seconds == pytest.approx(0.5)
    assert found.waiting == pytest.approx(0.8)
    assert found.start_seconds == pytest.approx(2.4 - 3 * 0.4)
    assert found.epoch_seconds == pytest.approx(1.2 + 1000 * 0.5)
    assert found.spread == pytest.approx(0, abs=1e-6)
    assert found.images_per_s == pytest.approx(16)


def test_bursts_are_not_cut() -> None:
    """Three workers deliver three batches every 3 s: one batch per second, for any end of the window."""
    waits = [3.0, 0.0, 0.0] * 6
    for cut in range(12, 18):
        found = estimate([simulated(waits[:cut], 0.0, 4)], 4, 400, warmup=6, period=3)
        assert found.epoch_seconds == pytest.approx(100)


def test_whole_passes_are_not_extrapolated() -> None:
    """The first pass is a warm-up; the estimate is the mean of the others, with their start and end."""
    passes = [simulated([seconds, 0.1], 0.2, 10, ended=True) for seconds in (9.0, 1.0, 1.2, 1.1, 1.1)]
    found = estimate(passes, 10, 20, warmup=1)
    assert found.epoch_seconds == pytest.approx(1.1 + 0.1 + 0.4)
    assert 0 < found.spread < 0.1


def test_unknown_spread_is_nan() -> None:
    assert math.isnan(estimate([simulated([0.5, 0.5], 0.1, 4)], 4, 40, warmup=1).spread)


def test_less_than_a_batch() -> None:
    one = Pass([0.2], [0.1], [3], 0.2)
    assert estimate([one] * 5, 64, 3, warmup=0).epoch_seconds == pytest.approx(0.2)


def test_recording_stops_within_a_pass() -> None:
    def step(batch: int) -> int:
        time.sleep(0.01)
        return batch

    passes = record_passes(lambda: iter([4] * 7), step, 0.2, warmup=2)
    assert 0.15 < sum(one.done[-1] for one in passes) < 5
    assert all(one.ended for one in passes[:-1])
    assert passes[0].images == [4] * 7
    assert 0.01 <= estimate(passes, 4, 28, warmup=2).batch_seconds < 0.1
