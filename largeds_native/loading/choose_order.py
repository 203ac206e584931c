"""Turns the arguments of a Loader into the plan of its epochs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from largeds_native.errors import ArgumentError
from largeds_native.loading.mix import Mixed
from largeds_native.loading.order import Block, Int64Array, Order, Random, Sequential, ShardBlock, Subset, Weighted
from largeds_native.loading.partition import Partition
from largeds_native.loading.plan import OrderPlan, SamplerPlan
from largeds_native.store import ConcatStore, Store
from largeds_native.store.concat_store import store_weights
from largeds_native.store.gather import index_array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

BLOCK_BYTES = 1 << 26  # default size of a window of the block order


@dataclass(frozen=True)
class OrderOptions:
    """The arguments of a Loader that say in which order samples come."""

    shuffle: bool
    order: str | Iterable[Any] | None
    seed: int
    block: int | str | None
    weights: ArrayLike | Tensor | None
    indices: ArrayLike | Tensor | None


def choose_plan(
    options: OrderOptions, store: Store, batch_size: int | None, partition: Partition, drop_last: bool
) -> OrderPlan | SamplerPlan:
    """Plans the batches of each epoch over a store. Raises ArgumentError for options that don't fit."""
    if not isinstance(options.shuffle, (bool, np.bool_)):
        raise ArgumentError(f"shuffle: expected True or False, found {options.shuffle!r}")
    _check_one_order(options)
    _check_mix(options, store)
    if options.order is not None and not isinstance(options.order, str):
        if not isinstance(options.order, Iterable) and not hasattr(options.order, "__getitem__"):
            raise ArgumentError(
                f"order: expected 'block', 'weighted', a sampler or a collection of numbers, found {options.order!r}. "
                "shuffle=True shuffles all samples"
            )
        if options.indices is not None or options.block is not None:
            raise ArgumentError("indices and block are for the loader's own orders, not for a sampler")
        return SamplerPlan(options.order, batch_size, drop_last, options.seed)
    if batch_size is None:
        raise ArgumentError("batch_size: expected a number; None is for a batch sampler given as `order`")
    chosen = None if options.indices is None else _subset(options.indices, len(store))
    n = len(store) if chosen is None else len(chosen)
    if n == 0:
        raise ArgumentError(f"expected at least one sample, found an empty {'store' if chosen is None else 'subset'}")
    weights = _weights_of_stores(options, store, n)
    if weights is not None:
        assert isinstance(store, ConcatStore)
        return OrderPlan(_mixed(store, weights, chosen, options.seed), batch_size, partition, drop_last)
    if options.block == "shard" and options.order == "block":
        return OrderPlan(_of_shards(store, chosen, options.seed), batch_size, partition, drop_last)
    order = _order(options, n, store.row_bytes)
    return OrderPlan(order if chosen is None else Subset(order, chosen), batch_size, partition, drop_last)


def _check_one_order(options: OrderOptions) -> None:
    """Allows one of shuffle, order and weights; only order="weighted" and weights go together."""
    found = repr(options.order) if isinstance(options.order, str) else type(options.order).__name__
    if options.shuffle and options.order is not None:
        raise ArgumentError(
            f"shuffle=True and order={found}: expected one of them. shuffle=True shuffles all samples; an order "
            "defines itself in which order samples come"
        )
    if options.shuffle and options.weights is not None:
        raise ArgumentError("shuffle=True and weights: expected one of them. Draws by weights come in random order")
    weighted = isinstance(options.order, str) and options.order == "weighted"  # an array compares by element
    if options.weights is not None and options.order is not None and not weighted:
        raise ArgumentError(f"weights are for order='weighted', found order={found}")


def _check_mix(options: OrderOptions, store: Store) -> None:
    """Raises ArgumentError for an order beside the one that a mix has."""
    if not isinstance(store, ConcatStore) or store.weights is None:
        return
    if options.weights is not None or options.order is not None:
        given = "weights" if options.weights is not None else "order"
        raise ArgumentError(
            f"{given}: {store.path} is a mix (largeds_native.mix), which draws by its own weights: pass shuffle=True "
            f"alone, or {given}= with largeds_native.concat of its stores"
        )
    if not options.shuffle:
        raise ArgumentError(
            f"shuffle: expected True, as {store.path} is a mix (largeds_native.mix), whose rows are drawn: pass "
            "shuffle=True, or largeds_native.concat of its stores to read them one after another"
        )


def _weights_of_stores(options: OrderOptions, store: Store, n: int) -> tuple[float, ...] | None:
    """The weights, if they are one a store; as many as samples are one a sample."""
    if not isinstance(store, ConcatStore):
        return None
    if store.weights is not None:
        return store.weights
    if options.weights is None:
        return None
    try:
        shape = np.shape(options.weights)
    except ValueError:  # lists of several lengths
        shape = ()
    if shape == (n,):
        return None
    if shape != (len(store.stores),):
        raise ArgumentError(
            f"weights: expected {n} numbers, one per sample, or {len(store.stores)}, one per store, found "
            f"{options.weights!r:.100}"
        )
    return store_weights(options.weights, store.stores)


def _mixed(store: ConcatStore, weights: tuple[float, ...], chosen: Int64Array | None, seed: int) -> Mixed:
    ends = np.cumsum([0, *map(len, store.stores)]).tolist()
    parts: list[range | Int64Array] = [range(low, high) for low, high in itertools.pairwise(ends)]
    if chosen is not None:
        parts = [chosen[(chosen >= low) & (chosen < high)] for low, high in itertools.pairwise(ends)]
    for part, one in zip(parts, store.stores, strict=True):
        if not len(part):
            raise ArgumentError(
                f"indices: expected rows of each store that is mixed, found none of {one.path}: leave it out of the mix"
            )
    return Mixed(parts, weights, seed)


def _order(options: OrderOptions, n: int, row_bytes: int) -> Order:
    name = options.order
    if options.block is not None and name != "block":
        raise ArgumentError(f"block is for order='block', found order={name!r}")
    if name == "weighted" or options.weights is not None:
        if options.weights is None:
            raise ArgumentError("order='weighted' needs weights, one number per sample, or per store of a concat")
        return Weighted(options.weights, n, options.seed)
    if name == "block":
        default = max(1, BLOCK_BYTES // row_bytes)
        if isinstance(options.block, str):
            raise ArgumentError(
                f"block: expected at least 1 row, as a whole number, or 'shard', found {options.block!r}"
            )
        return Block(n, options.seed, default if options.block is None else options.block)
    if name is not None:
        raise ArgumentError(
            f"order: expected 'block', 'weighted' or a sampler, found {name!r}. "
            "shuffle=True shuffles all samples, shuffle=False keeps the store's order"
        )
    return Random(n, options.seed) if options.shuffle else Sequential(n)


def _of_shards(store: Store, chosen: Int64Array | None, seed: int) -> Order:
    """Shards in random order; of a subset, with the rows that are chosen in each."""
    rows = store.shard_rows
    if chosen is None:
        return ShardBlock(rows, seed)
    chosen = np.sort(chosen)
    bounds = np.searchsorted(chosen, np.cumsum([0, *rows]))
    return Subset(ShardBlock(np.diff(bounds).tolist(), seed), chosen)


def _subset(indices: ArrayLike | Tensor, n: int) -> Int64Array:
    array = np.asarray(indices)
    if array.dtype == bool:
        if array.shape != (n,):
            raise ArgumentError(f"indices: expected a mask of {n} bools, found shape {array.shape}")
        return np.flatnonzero(array)
    numbers = index_array(array).copy()  # the caller may change its array
    if len(numbers) and (numbers.min() < 0 or numbers.max() >= n):
        found = f"{numbers.min()} to {numbers.max()}"
        raise ArgumentError(f"indices: expected numbers from 0 to {n - 1}, found {found}")
    return numbers
