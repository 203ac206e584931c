"""Stores: the interface `Store`, its two implementations, and the format on disk (`format`)."""

from __future__ import annotations

from largeds_native.store.base import Store
from largeds_native.store.mapped import MappedArrayStore
from largeds_native.store.packed import PackedStore, Shard, as_packed

__all__ = ["MappedArrayStore", "PackedStore", "Shard", "Store", "as_packed"]
