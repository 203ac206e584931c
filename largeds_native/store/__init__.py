"""The store on disk: its format, opening it, reading rows, verifying it."""

from __future__ import annotations

from largeds_native.store.samples import Shard
from largeds_native.store.store import Store, open_store

__all__ = ["Shard", "Store", "open_store"]
