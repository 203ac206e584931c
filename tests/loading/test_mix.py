"""Mixes of stores: proportions, draws without replacement, and what a mix refuses."""

from __future__ import annotations

import itertools
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import largeds_native as lds
from largeds_native.errors import ArgumentError, StateError
from largeds_native.loading.mix import Mixed
from largeds_native.store.concat_store import ConcatStore
from tests.builders.stores import make_jpeg_store, make_random_store
from tests.reference import mixed_stores

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=6)
WEIGHTS = st.lists(st.floats(0.01, 100), min_size=6, max_size=6)


def parts_of(sizes: list[int]) -> list[range]:
    ends = np.cumsum([0, *sizes]).tolist()
    return [range(low, high) for low, high in itertools.pairwise(ends)]


def draws(order: Mixed, epochs: int) -> list[int]:
    return [int(row) for epoch in range(epochs) for row in order.elements(epoch, 0, order.length)]


@settings(max_examples=40, deadline=None)
@given(sizes=SIZES, weights=WEIGHTS, seed=st.integers(0, 2**64 - 1))
def test_each_store_has_its_share_of_every_prefix(sizes: list[int], weights: list[float], seed: int) -> None:
    weights = weights[: len(sizes)]
    parts = parts_of(sizes)
    stores = [next(i for i, part in enumerate(parts) if row in part) for row in draws(Mixed(parts, weights, seed), 4)]
    assert stores == mixed_stores(weights, len(stores))
    deepest = 1 + np.ceil(np.log2(len(sizes)))
    for store, weight in enumerate(weights):
        had = np.cumsum(np.array(stores) == store)
        expected = np.arange(1, len(stores) + 1) * weight / sum(weights)
        assert np.abs(had - expected).max() < deepest + 1e-3


@settings(max_examples=40, deadline=None)
@given(sizes=SIZES, weights=WEIGHTS, seed=st.integers(0, 99))
def test_a_row_comes_again_only_when_its_store_is_used_up(sizes: list[int], weights: list[float], seed: int) -> None:
    parts = parts_of(sizes)
    found = draws(Mixed(parts, weights[: len(sizes)], seed), 5)
    for part in parts:
        own = [row for row in found if row in part]
        for start in range(0, len(own), len(part)):
            turn = own[start : start + len(part)]
            assert len(set(turn)) == len(turn)
        if len(part) > 20 and len(own) >= 2 * len(part):
            assert own[: len(part)] != own[len(part) : 2 * len(part)]


@settings(max_examples=40, deadline=None)
@given(sizes=SIZES, weights=WEIGHTS, data=st.data())
def test_any_position_is_computed_alone(sizes: list[int], weights: list[float], data: st.DataObject) -> None:
    order = Mixed(parts_of(sizes), weights[: len(sizes)], 3)
    epoch = data.draw(st.sampled_from([0, 1, 7, 2**62]))
    whole = order.elements(epoch, 0, order.length)
    start = data.draw(st.integers(0, order.length - 1))
    count = data.draw(st.integers(0, order.length - start))
    np.testing.assert_array_equal(order.elements(epoch, start, count), whole[start : start + count])
    # of equal weights, as a part of one sample may take nearly all draws
    one, other = (Mixed(parts_of(sizes), [1.0] * len(sizes), seed) for seed in (3, 4))
    same = one.elements(epoch, 0, one.length).tolist() == other.elements(epoch, 0, other.length).tolist()
    assert sum(sizes) < 20 or len(sizes) > 3 or not same


def test_shares_are_as_typed(tmp_path: Path) -> None:
    """0.7 and 0.3 are 7 and 3 of ten draws, for ever."""
    order = Mixed(parts_of([30, 20]), [0.7, 0.3], 0)
    assert {int((order.elements(epoch, 0, 50) < 30).sum()) for epoch in (0, 1, 10**9, 2**63 - 1)} == {35}
    assert order.describe() != Mixed(parts_of([30, 20]), [0.7, 0.300001], 0).describe()
    assert order.describe() == Mixed(parts_of([30, 20]), [7, 3], 0).describe()
    tiny = Mixed(parts_of([30, 20]), [1e-300, 1e-300], 0)
    assert (tiny.elements(0, 0, 50) < 30).sum() == 25


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Row i of the first has label i, of the second 100 + i: 90 and 10 rows."""
    folder = tmp_path_factory.mktemp("mix")
    return [
        make_random_store(folder / name, n, (3, 8, 8), fields={"label": np.arange(first, first + n)}, classes=())
        for name, n, first in (("large", 90, 0), ("small", 10, 100))
    ]


def labels_of(loader: Any) -> list[int]:
    return [int(label) for _, labels in loader for label in labels]


def test_a_loader_over_a_mix(stores: list[Any]) -> None:
    mixed = lds.mix(stores, weights=[0.7, 0.3])
    loader = lds.Loader(mixed, 20, shuffle=True, seed=5, augment=lds.Augment(random_crop=4))
    assert "order mixed" in repr(loader)
    first: list[int] = []
    pictures: dict[int, set[bytes]] = {}
    for images, labels in loader:
        assert (labels < 100).sum() == 14  # of each batch
        first += labels.tolist()
        for image, label in zip(images, labels.tolist(), strict=True):
            pictures.setdefault(label, set()).add(image.numpy().tobytes())
    assert [first.count(label) for label in range(100, 110)] == [3] * 10
    assert any(len(pictures[label]) > 1 for label in range(100, 110))  # augmented anew each time
    second = labels_of(loader)
    large = [label for label in first + second if label < 100]
    assert sorted(large[:90]) == list(range(90))  # the rest of the large store comes in the second epoch
    weighted = lds.Loader(
        lds.concat(stores), 20, order="weighted", weights=[7, 3], seed=5, augment=lds.Augment(random_crop=4)
    )
    assert labels_of(weighted) == first
    assert labels_of(lds.Loader(pickle.loads(pickle.dumps(mixed)), 20, shuffle=True, seed=5)) == first


def test_as_many_stores_as_rows(stores: list[Any], tmp_path: Path) -> None:
    """Then weights are one a row, as for any store."""
    two = lds.concat([make_random_store(tmp_path / name, 1, (3, 8, 8)) for name in "ab"])
    loader = lds.Loader(two, 2, weights=[1, 3])
    assert loader.plan.order.name == "weighted"  # type: ignore[union-attr]
    assert lds.Loader(lds.concat(stores), 2, weights=np.ones(100)).plan.order.name == "weighted"  # type: ignore[union-attr]


@settings(max_examples=10, deadline=None)
@given(before=st.integers(1, 3), worlds=st.tuples(st.integers(1, 3), st.integers(1, 3)))
def test_it_resumes_in_any_world(stores: list[Any], before: int, worlds: tuple[int, int]) -> None:
    def loaders(world: int) -> list[Any]:
        return [
            lds.Loader(lds.mix(stores, [2, 1]), 8, shuffle=True, rank=rank, world_size=world, drop_last=True)
            for rank in range(world)
        ]

    expected = labels_of(lds.Loader(lds.mix(stores, [2, 1]), 1, shuffle=True))
    seen: list[int] = []
    running = [(loader, iter(loader)) for loader in loaders(worlds[0])]
    for _ in range(before):
        for _, iterator in running:
            seen += next(iterator)[1].tolist()
    state = json.loads(json.dumps(running[0][0].state_dict()))
    rest = loaders(worlds[1])
    for loader in rest:
        loader.load_state_dict(state)
    for batches in zip(*rest, strict=True):
        for _, labels in batches:
            seen += labels.tolist()
    assert seen == expected[: len(seen)]
    assert len(seen) > 100 - 8 * worlds[1]
    with pytest.raises(StateError, match="taken with another order"):
        lds.Loader(lds.mix(stores, [2, 1.5]), 8, shuffle=True).load_state_dict(state)


def test_a_subset_of_a_mix(stores: list[Any]) -> None:
    chosen = [*range(5, 25), 93, 95]
    loader = lds.Loader(lds.mix(stores, [1, 1]), 11, shuffle=True, indices=chosen)
    labels = labels_of(loader)
    assert len(labels) == 22
    assert sum(label < 100 for label in labels) == 11
    assert set(labels) <= {*range(5, 25), 103, 105}
    assert labels.count(103) + labels.count(105) == 11
    mask = np.isin(np.arange(100), chosen)
    assert labels_of(lds.Loader(lds.mix(stores, [1, 1]), 11, shuffle=True, indices=mask)) == labels
    with pytest.raises(ArgumentError, match=r"found none of .*small: leave it out of the mix"):
        lds.Loader(lds.mix(stores, [1, 1]), 11, shuffle=True, indices=range(50))


def test_a_joined_store_in_a_mix_has_one_weight(stores: list[Any]) -> None:
    mixed = lds.mix([lds.concat(stores), stores[1]], [1, 3])
    labels = labels_of(lds.Loader(mixed, 22, shuffle=True))
    assert sum(label < 100 for label in labels) <= 28
    assert isinstance(mixed.stores[0], ConcatStore)


def test_a_damaged_row_of_a_mix(tmp_path: Path) -> None:
    parts = [make_jpeg_store(tmp_path, 5, name=name) for name in ("a.lds", "b.lds")]
    path = tmp_path / "b.lds" / "shard-00000" / "images.bin"
    data = bytearray(path.read_bytes())
    data[:3] = b"???"
    path.write_bytes(data)
    mixed = lds.mix([parts[0], lds.open(tmp_path / "b.lds")], [1, 1])
    augment = lds.Augment(resized_crop=16)
    with pytest.raises(lds.DecodeError, match=r"b.lds/shard-00000/images.bin, row 0"):
        list(lds.Loader(mixed, 10, shuffle=True, augment=augment))
    loader = lds.Loader(mixed, 10, shuffle=True, augment=augment, on_damage="skip", indices=range(1, 9))
    with pytest.warns(RuntimeWarning, match="a row is replaced"):
        list(loader)
    assert loader.stats()["replaced"] >= 1


def test_what_a_mix_refuses(stores: list[Any], tmp_path: Path) -> None:
    for weights, message in (
        ([1, 0], r"a positive number for .*small, found 0.0; leave out"),
        ([1, -2], "a positive number for .*small, found -2"),
        ([1, float("nan")], "a positive number for .*small, found nan"),
        ([float("inf"), 1], "a positive number for .*large, found inf"),
        ([1], "expected 2 numbers, one a store, found 1"),
        ([1, 2, 3], "expected 2 numbers, one a store, found 3"),
        (None, "expected 2 numbers, one a store, found None"),
        (["a", "b"], "expected 2 numbers"),
        ([1, 1e7], "none is 1,000,000 times another"),
    ):
        with pytest.raises(ArgumentError, match=message):
            lds.mix(stores, weights)  # type: ignore[arg-type]
        if weights is not None and len(weights) == 2:
            with pytest.raises(ArgumentError, match=message):
                lds.Loader(lds.concat(stores), 4, order="weighted", weights=weights)
    np.save(tmp_path / "empty.npy", np.zeros((0, 3, 8, 8), np.uint8))
    np.save(tmp_path / "labels.npy", np.zeros(0, np.int64))
    empty = lds.open(tmp_path / "empty.npy", label=tmp_path / "labels.npy")
    with pytest.raises(ArgumentError, match=r"empty.npy is empty, so nothing can be drawn"):
        lds.mix([stores[0], empty], [1, 1])
    mixed = lds.mix(stores, [1, 1])
    with pytest.raises(ArgumentError, match="a mix of stores with weights of their own"):
        lds.concat([mixed, stores[0]])
    with pytest.raises(ArgumentError, match="shuffle: expected True"):
        lds.Loader(mixed, 4)
    with pytest.raises(ArgumentError, match=r"order: .* is a mix"):
        lds.Loader(mixed, 4, order="block")
    with pytest.raises(ArgumentError, match=r"weights: .* is a mix"):
        lds.Loader(mixed, 4, weights=[1, 1])
    with pytest.raises(ArgumentError, match=r"fields of .* differ"):
        lds.mix([stores[0], make_random_store(tmp_path / "other", 3, (3, 8, 8), fields={})], [1, 1])
    for weights in ([1, 2, 3], [[1], [1, 2]], "abc", 3, {1: 2}):
        with pytest.raises(ArgumentError, match="weights: expected 100 numbers, one per sample, or 2, one per store"):
            lds.Loader(lds.concat(stores), 4, weights=weights)  # type: ignore[arg-type]


def test_its_statistics_and_summary(stores: list[Any]) -> None:
    mixed = lds.mix(stores, [1, 3])
    assert "2 stores" in repr(mixed)
    assert "weights (1.0, 3.0)" in repr(mixed)
    assert mixed.statistics == lds.concat(stores).statistics
    assert torch.equal(mixed.gather([0, 95]), lds.concat(stores).gather([0, 95]))
