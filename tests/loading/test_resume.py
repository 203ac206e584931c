"""After a resume at any position, the rest of the epoch is the same, on any number of ranks."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import largeds_native as lds
from largeds_native.errors import StateError
from tests.builders.stores import make_labelled_store
from tests.loading.epochs import assert_same, epoch_of, labels_of

ORDERS: dict[str, dict[str, Any]] = {
    "in order": {},
    "shuffled": {"shuffle": True},
    "block": {"order": "block", "block": 4},
    "weighted": {"weights": np.arange(100) + 1},
}


@pytest.mark.parametrize("order", ORDERS)
def test_resumed_after_any_batch_the_rest_is_identical(store: Any, order: str) -> None:
    kwargs = ORDERS[order] | {"augment": lds.Augment(random_crop=6, padding=1, flip=0.5)}
    whole = lds.Loader(store, 16, seed=9, **kwargs)
    expected = [epoch_of(whole), epoch_of(whole)]
    for stop in range(8):
        first = lds.Loader(store, 16, seed=9, threads=1, **kwargs)
        iterator = iter(first)
        for _ in range(stop):
            next(iterator, None)
        state = first.state_dict()
        assert all(isinstance(value, int) for value in state.values())
        resumed = lds.Loader(store, 16, seed=9, threads=3, prefetch=1, **kwargs)
        resumed.load_state_dict(state)
        assert resumed.remaining == first.remaining == (7 - stop if stop < 8 else 7)
        assert_same(epoch_of(resumed), expected[0][stop:])
        assert (resumed.remaining, len(resumed)) == (7, 7)
        assert_same(epoch_of(resumed), expected[1])


def test_state_after_a_break_and_at_the_end(store: Any) -> None:
    loader = lds.Loader(store, 10, shuffle=True)
    for number, _ in enumerate(loader):
        if number == 3:
            break
    assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (0, 40)
    assert loader.remaining == 6
    first = labels_of(loader)  # a new iteration is the next epoch, whole
    assert len(first) == 10
    assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (2, 0)
    loader.set_epoch(1)
    assert labels_of(loader) == first


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 100), size=st.integers(1, 20), world=st.integers(1, 5), again=st.integers(1, 5),
    stop=st.integers(0, 6), drop_last=st.booleans(), shuffle=st.booleans(),
)  # fmt: skip
def test_ranks_share_an_epoch_and_resume_in_another_world(
    store: Any, n: int, size: int, world: int, again: int, stop: int, drop_last: bool, shuffle: bool
) -> None:
    def loaders(world_size: int) -> list[Any]:
        kwargs = {"indices": range(n), "shuffle": shuffle, "drop_last": drop_last, "threads": 1, "prefetch": 0}
        return [lds.Loader(store, size, rank=r, world_size=world_size, **kwargs) for r in range(world_size)]

    first = loaders(world)
    whole = [labels_of(loader) for loader in first]
    assert {len(loader) for loader in first} == {len(batches) for batches in whole}
    assert all(len(set(map(len, parts))) == 1 for parts in zip(*whole, strict=True))  # equal sizes on all ranks
    flat = sum(itertools.chain(*whole), [])
    if drop_last:
        assert len(flat) == len(set(flat)) == n // (size * world) * size * world
    else:
        assert set(flat) == set(range(n))
        assert len(flat) - n < world

    for loader in first:
        loader.set_epoch(0)
    begun = [iter(loader) for loader in first]
    seen = [next(it, (None, torch.empty(0)))[1].tolist() for it in begun for _ in range(stop)]
    states = [loader.state_dict() for loader in first]
    if states[0]["epoch"] != 0 or len(set(map(str, states))) != 1:
        assert len(set(map(str, states))) == 1  # all ranks are at the same place
        return
    rest = []
    for loader in loaders(again):
        loader.load_state_dict(states[0])
        remaining = loader.remaining
        batches = labels_of(loader)
        assert len(batches) == remaining
        rest += sum(batches, [])
    flat = sum(seen, [])
    if drop_last:
        assert not set(flat) & set(rest)
    else:
        assert set(rest) >= set(range(n)) - set(flat)
        assert len(rest) - (n - len(set(flat))) < again


def test_states_that_do_not_fit(store: Any, tmp_path: Path) -> None:
    state = lds.Loader(store, 4, shuffle=True).state_dict()
    other = make_labelled_store(tmp_path, 50)
    for loader, message in (
        (lds.Loader(other, 4, shuffle=True), "another store"),
        (lds.Loader(store, 4, shuffle=True, seed=1), "another seed"),
        (lds.Loader(store, 4, shuffle=True, indices=range(99)), "another order"),
        (lds.Loader(store, 4), "another order"),
    ):
        with pytest.raises(StateError, match=message):
            loader.load_state_dict(state)
    loader = lds.Loader(store, 4, shuffle=True)
    for change, message in (
        ({"version": 2}, "version 2, this release reads 1"),
        ({"position": 101}, "expected 0 to 100, found 101"),
        ({"position": -1}, "position"),
        ({"epoch": -1}, "epoch"),
    ):
        with pytest.raises(StateError, match=message):
            loader.load_state_dict(state | change)
    with pytest.raises(StateError, match="state_dict"):
        loader.load_state_dict({})
