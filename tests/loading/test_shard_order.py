"""The order of whole shards."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import largeds_native as lds
from largeds_native.errors import ArgumentError
from largeds_native.loading.order import ShardBlock
from tests.loading.epochs import labels_of


def slow_shard_order(rows: list[int], seed: int, epoch: int) -> list[int]:
    """Whole shards in the order of a permutation, those of a group shuffled together."""
    from largeds_native import _C

    rows = [count for count in rows if count]
    first = [sum(rows[:i]) for i in range(len(rows))]
    together = min(16, max(1, len(rows) // 16))
    order = _C.permute(len(rows), seed, epoch, 0, len(rows)).tolist()
    found: list[int] = []
    for group in range(-(-len(rows) // together)):
        elements = [
            first[shard] + i for shard in order[group * together : (group + 1) * together] for i in range(rows[shard])
        ]
        key = (seed + (group + 1) * 0x9E3779B97F4A7C15) % 2**64
        found += [elements[i] for i in _C.permute(len(elements), key, epoch, 0, len(elements)).tolist()]
    return found


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=70).filter(any), st.integers(0, 2**64 - 1), st.integers(0, 1000)
)
@settings(max_examples=60, deadline=None)
def test_whole_shards(rows: list[int], seed: int, epoch: int) -> None:
    order = ShardBlock(rows, seed)
    expected = slow_shard_order(rows, seed, epoch)
    assert order.elements(epoch, 0, order.length).tolist() == expected
    assert sorted(expected) == list(range(sum(rows)))
    middle = len(expected) // 2
    assert order.elements(epoch, middle, len(expected) - middle).tolist() == expected[middle:]


def test_block_by_shards_in_a_loader(store: Any) -> None:
    loader = lds.Loader(store, 7, order="block", block="shard", seed=3)
    labels = [label for batch in labels_of(loader) for label in batch]
    assert labels == slow_shard_order(store.shard_rows, 3, 0)
    chosen = [90, 3, 50, 51, 2]
    loader = lds.Loader(store, 2, order="block", block="shard", indices=chosen)
    assert sorted(label for batch in labels_of(loader) for label in batch) == sorted(chosen)
    with pytest.raises(ArgumentError, match=r"block: expected at least 1 row.* or 'shard', found 'shards'"):
        lds.Loader(store, 2, order="block", block="shards")  # type: ignore[arg-type]
