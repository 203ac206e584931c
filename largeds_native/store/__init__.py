"""Stores: the interface `Store`, its implementations, and the format on disk (`format`)."""

from __future__ import annotations

import os
from pathlib import Path

from largeds_native.store.base import Store
from largeds_native.store.concat_store import ConcatStore, concat, mix, parts_of
from largeds_native.store.format.manifest import Manifest, read_manifest
from largeds_native.store.jpeg import JpegStore
from largeds_native.store.mapped import MappedArrayStore
from largeds_native.store.packed import PackedStore, Shard, as_packed
from largeds_native.store.remote.pull import pull
from largeds_native.store.remote.push import push
from largeds_native.store.remote.remote_store import RemoteJpegStore, RemoteStore, open_remote

__all__ = [
    "ConcatStore",
    "JpegStore",
    "MappedArrayStore",
    "PackedStore",
    "RemoteJpegStore",
    "RemoteStore",
    "Shard",
    "Store",
    "as_packed",
    "concat",
    "mix",
    "open_manifest",
    "open_packed",
    "open_remote",
    "parts_of",
    "pull",
    "push",
]


def open_packed(path: str | os.PathLike[str]) -> PackedStore:
    """Opens the store in a folder, by the codec of its rows. Raises StoreError as `PackedStore` does."""
    return open_manifest(path, read_manifest(Path(os.path.abspath(path))))


def open_manifest(path: str | os.PathLike[str], manifest: Manifest) -> PackedStore:
    """Opens the store that this manifest describes, whether or not it is written yet."""
    return (JpegStore if manifest.codec == JpegStore.codec else PackedStore)(path, manifest)
