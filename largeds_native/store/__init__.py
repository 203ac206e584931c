"""Stores: their format on disk (`format`), what each of them is (`Store`), and the two kinds of them."""

from __future__ import annotations

from largeds_native.store.base import Store
from largeds_native.store.mapped import MappedArrayStore
from largeds_native.store.packed import PackedStore, Shard, as_packed

__all__ = ["MappedArrayStore", "PackedStore", "Shard", "Store", "as_packed"]
