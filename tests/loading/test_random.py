"""Counter-based random numbers and the keyed permutation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch  # noqa: F401
from hypothesis import given, settings
from hypothesis import strategies as st

from largeds_native import _C
from largeds_native.errors import ArgumentError
from tests import reference

SEEDS = st.integers(0, 2**64 - 1)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # the known answers that come with Random123
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([2**32 - 1] * 4, [2**32 - 1] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_known_answers(counter: list[int], key: list[int], expected: list[int]) -> None:
    assert _C.philox(counter, key) == expected
    assert reference.philox4x32(counter, key) == expected


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(0, 1000), st.integers(0, 2**40))
def test_draws(seed: int, epoch: int, sample: int) -> None:
    draws = reference.SampleDraws(seed, epoch, sample)
    assert _C.uniforms(seed, epoch, sample, 9) == [draws.uniform() for _ in range(9)]


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(0, 1000), st.integers(0, 2**31 - 1), st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_draws_of_colours(seed: int, epoch: int, view: int, samples: list[int]) -> None:
    ours = _C.color_uniforms(seed, epoch, view, np.array(samples, np.int64), 9)
    assert ours.shape == (len(samples), 9)
    assert ours.tolist() == [reference.color_uniforms(seed, epoch, view, sample, 9) for sample in samples]


def test_bad_draws_of_colours() -> None:
    for view, count in ((2**31, 1), (0, -1)):
        with pytest.raises(ArgumentError, match=r"a view below 2\^31"):
            _C.color_uniforms(0, 0, view, np.arange(2), count)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 300) | st.integers(1020, 1100) | st.just(4096), SEEDS, st.integers(0, 100))
def test_permutation(n: int, seed: int, epoch: int) -> None:
    order = _C.permute(n, seed, epoch, 0, n)
    assert sorted(order.tolist()) == list(range(n))
    assert order.tolist() == reference.permutation(n, seed, epoch)
    if n > 3:
        assert _C.permute(n, seed, epoch, 2, n - 3).tolist() == order[2:-1].tolist()


def test_permutation_of_billions_is_cheap() -> None:
    order = _C.permute(2**40, 1, 2, 2**39, 1000)
    assert len(set(order.tolist())) == 1000
    assert order.min() >= 0
    assert order.max() < 2**40


def test_permutations_look_random() -> None:
    """Positions, neighbours and epochs are uncorrelated (within five standard deviations)."""
    n = 20_000
    first, second = (_C.permute(n, 3, epoch, 0, n) for epoch in (0, 1))
    bound = 5 / np.sqrt(n)
    assert abs(np.corrcoef(np.arange(n), first)[0, 1]) < bound
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < bound
    assert abs(np.corrcoef(first, second)[0, 1]) < bound


DRAWS = 20_000


def assert_equally_frequent(counts: np.ndarray, degrees: int) -> None:
    """Pearson's chi-square, below what one in 30,000 uniform samples exceeds (Wilson and Hilferty's approximation)."""
    expected = counts.sum() / counts.size
    statistic = float(((counts - expected) ** 2).sum() / expected)
    spread = 2 / (9 * degrees)
    assert statistic < degrees * (1 - spread + 4 * spread**0.5) ** 3


def orders(n: int, draws: int, by: str) -> np.ndarray:
    """Of so many seeds, or of so many epochs of one seed."""
    numbers = [(i, 0) if by == "seed" else (7, i) for i in range(draws)]
    return np.array([_C.permute(n, seed, epoch, 0, n) for seed, epoch in numbers])


@pytest.mark.parametrize("by", ["seed", "epoch"])
@pytest.mark.parametrize("n", range(2, 17))
def test_few_samples_come_at_each_position_equally_often(n: int, by: str) -> None:
    found = orders(n, DRAWS, by)
    counts = np.array([np.bincount(found[:, position], minlength=n) for position in range(n)])
    assert_equally_frequent(counts, (n - 1) ** 2)


@pytest.mark.parametrize("by", ["seed", "epoch"])
@pytest.mark.parametrize("n", range(2, 7))
def test_each_permutation_of_few_samples_comes_equally_often(n: int, by: str) -> None:
    _, counts = np.unique(orders(n, DRAWS, by), axis=0, return_counts=True)
    assert len(counts) == math.factorial(n)
    assert_equally_frequent(counts, len(counts) - 1)


def is_odd(order: list[int]) -> bool:
    """n minus the number of cycles is odd."""
    seen, cycles = [False] * len(order), 0
    for start in range(len(order)):
        at = start
        cycles += not seen[start]
        while not seen[at]:
            seen[at], at = True, order[at]
    return (len(order) - cycles) % 2 == 1


@pytest.mark.parametrize(("n", "draws"), [(16, 2000), (64, 1000), (256, 400), (1024, 200), (4096, 64)])
def test_half_of_the_permutations_are_odd(n: int, draws: int) -> None:
    """A Feistel network on all of its bits is always even."""
    odd = sum(is_odd(order.tolist()) for order in orders(n, draws, "seed"))
    assert abs(odd - draws / 2) < 2 * draws**0.5  # four deviations


@pytest.mark.parametrize("n", [1024, 1025, 4096, 5000])
def test_many_samples_come_in_each_part_equally_often(n: int) -> None:
    found = orders(n, 300, "epoch")
    parts = np.arange(n) * 16 // n
    counts = np.array([np.bincount(parts[found[:, parts == part]].ravel(), minlength=16) for part in range(16)])
    sizes = np.bincount(parts)
    assert_equally_frequent(counts / np.outer(sizes, sizes) * (n / 16) ** 2, 15**2)


@pytest.mark.parametrize(("start", "count"), [(-1, 2), (5, 6), (0, 11), (11, 0), (0, -1)])
def test_positions_outside(start: int, count: int) -> None:
    with pytest.raises(ArgumentError, match="outside a permutation of 10"):
        _C.permute(10, 0, 0, start, count)
