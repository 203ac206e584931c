"""Counter-based random numbers and the keyed permutation."""

from __future__ import annotations

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


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 300), SEEDS, st.integers(0, 100))
def test_permutation(n: int, seed: int, epoch: int) -> None:
    order = _C.permute(n, seed, epoch, 0, n)
    assert sorted(order.tolist()) == list(range(n))
    assert order.tolist() == [reference.permuted(n, seed, epoch, i) for i in range(n)]
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


@pytest.mark.parametrize(("start", "count"), [(-1, 2), (5, 6), (0, 11), (11, 0), (0, -1)])
def test_positions_outside(start: int, count: int) -> None:
    with pytest.raises(ArgumentError, match="outside a permutation of 10"):
        _C.permute(10, 0, 0, start, count)
