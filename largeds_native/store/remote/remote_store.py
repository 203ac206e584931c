"""A store in object storage, whose shards are fetched to a cache on a local disk when they are first used."""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from largeds_native._internal.arrays import Array
from largeds_native._internal.objects import ObjectFolder
from largeds_native._internal.urls import is_url, local_path
from largeds_native.errors import ArgumentError, MissingObjectError
from largeds_native.store.format.manifest import Manifest
from largeds_native.store.format.sample_log import read_sample_log
from largeds_native.store.jpeg import JpegStore
from largeds_native.store.packed import PackedStore
from largeds_native.store.remote.download import fetch_manifest
from largeds_native.store.remote.shard_cache import ShardCache
from largeds_native.store.remote.shard_files import LOG, MAX_LOG_BYTES, shard_bytes
from largeds_native.store.report import NAME as REPORT
from largeds_native.store.report import Report

if TYPE_CHECKING:
    import pyarrow as pa

    from largeds_native import _C

MAX_REPORT_BYTES = 16 << 20


class RemoteStore(PackedStore):
    """A `PackedStore` in object storage, as `largeds_native.open(url, cache=...)` returns it.

    Whole shards are fetched when one of their rows is used, compared with their hashes, and kept in `cache`, which all
    processes of the machine share. `samples`, `samples_of` and `report` read their small files from the bucket.

    source: where the store is. cache: a folder on a local disk; without one, only what is in the manifest, `samples`
    and `report` can be read. cache_bytes: of this store, in the cache.
    """

    arriving = True

    def __init__(
        self, source: ObjectFolder, manifest: Manifest, cache: str | None = None, cache_bytes: int | None = None
    ) -> None:
        self.source, self._cache_folder, self._cache_bytes = source, cache, cache_bytes
        # rows for the core that are fields, or of joined stores, and the first of ours in them
        self._others: list[tuple[weakref.ref[Any], int]] = []
        folder = Path(cache or os.devnull) / manifest.identity
        super().__init__(folder, manifest)
        self._first = np.array([shard.start for shard in self.shards] + [len(self)], np.int64)
        self._shard_cache: ShardCache | None = None
        if cache is not None:
            self._check_limit(manifest)
            self._shard_cache = ShardCache(source, manifest, folder, cache_bytes)
            self._shard_cache.drop = _call_if_alive(weakref.WeakMethod(self._unmap))

    def _check_limit(self, manifest: Manifest) -> None:
        largest = max((shard_bytes(manifest, entry) for entry in manifest.shards), default=0)
        limit = self._cache_bytes
        if limit is not None and limit < largest:
            raise ArgumentError(
                f"cache_bytes: the largest shard of {self.source.url} needs {largest:,} bytes, found {limit:,}"
            )

    def _check_files(self, manifest: Manifest) -> None:
        """They are checked when they come."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.source, self._manifest, self._cache_folder, self._cache_bytes))

    @property
    def location(self) -> str:
        return self.source.url

    @property
    def cache(self) -> ShardCache:
        """ArgumentError without a cache."""
        if self._shard_cache is None:
            raise ArgumentError(
                f"cache: rows of {self.source.url} are fetched to a local disk: pass "
                "largeds_native.open(url, cache=FOLDER), or --cache FOLDER"
            )
        return self._shard_cache

    # ---- shards ------------------------------------------------------------------------------------------------------
    def using(self, shards: Sequence[int]) -> AbstractContextManager[None]:
        return self.cache.using([shard for shard in shards if self.shards[shard].rows])

    def reading(self, rows: Any) -> AbstractContextManager[None]:
        rows = np.asarray(rows, np.int64).reshape(-1)
        inside = rows[(rows >= 0) & (rows < len(self))]  # what reads them says what is wrong with the others
        return self.cache.using(self.shards_of(inside))

    def shards_of(self, rows: Array) -> list[int]:
        """The shards that have these rows, each once."""
        found: list[int] = np.unique(np.searchsorted(self._first, rows, "right") - 1).tolist()
        return found

    @property
    def first_rows(self) -> Array:
        """The first row of each shard, and the number of rows."""
        return self._first

    def part(self, name: str, part: int) -> Array:
        if (name, part) in self._parts:
            return self._parts[name, part]
        with self.using([part]):
            values = self._map(name, part)  # which stays readable if the file is deleted
        if self.cache.keeps_all:
            self._parts[name, part] = values
        return values

    def keep_readable(self, rows: _C.Rows, name: str, first: int) -> None:
        self._others = [(ref, row) for ref, row in self._others if ref() is not None]
        self._others.append((weakref.ref(rows), first))

    def _unmap(self, number: int) -> None:
        """Ends the core's mappings of a shard that nobody reads."""
        start = self.shards[number].start
        if self._rows is not None:
            self._rows.release(start * self.variants)
        for rows in self._encoded_pictures():
            rows.release(start)
        for ref, first in self._others:
            if (found := ref()) is not None:
                found.release(first + start)

    def _encoded_pictures(self) -> Sequence[_C.RowSource]:
        return ()

    def close(self) -> None:
        """Forgets the mapped arrays. What is in the cache stays there, and a Loader may still read it."""
        self._parts.clear()
        self._arrays.clear()
        self._formats.clear()

    # ---- small files -------------------------------------------------------------------------------------------------
    def samples_of(self, shards: Sequence[int], columns: Sequence[str] | None = None) -> pa.Table:
        import pyarrow as pa

        tables = []
        for shard in (self.shards[i] for i in shards):
            data = self.source.read(f"{shard.path.name}/{LOG}", 0, MAX_LOG_BYTES)
            tables.append(read_sample_log(shard.path, shard.start, columns, data))
        return pa.concat_tables(tables) if tables else super().samples_of(shards, columns)

    @cached_property
    def report(self) -> Report | None:
        """Counts, failures and speed of the pack, by one request; None if the store has no readable report.json."""
        try:
            return Report.of(self.source.read(REPORT, 0, MAX_REPORT_BYTES))
        except MissingObjectError:
            return None


class RemoteJpegStore(RemoteStore, JpegStore):
    """A `JpegStore` in object storage: see `RemoteStore`."""

    def _encoded_pictures(self) -> Sequence[_C.RowSource]:
        return tuple(self.__dict__.get("_rows_of_pictures", {}).values())

    def _beside(self, index: int, name: str) -> Array:
        if (name, index) in self._parts:
            return self._parts[name, index]
        with self.using([index]):
            values = super()._beside(index, name)
        if not self.cache.keeps_all:
            self._parts.pop((name, index), None)
        return values


def open_remote(url: str, cache: str | os.PathLike[str] | None = None, cache_bytes: int | None = None) -> RemoteStore:
    """The store at a URL, by one request for its manifest."""
    if cache is not None and (is_url(cache) or not isinstance(cache, (str, os.PathLike))):
        raise ArgumentError(f"cache: expected a folder on a local disk, found {cache!r:.200}")
    if cache_bytes is not None and (
        not isinstance(cache_bytes, int) or isinstance(cache_bytes, bool) or cache_bytes < 1
    ):
        raise ArgumentError(f"cache_bytes: expected a number of bytes, found {cache_bytes!r:.100}")
    if cache_bytes is not None and cache is None:
        raise ArgumentError("cache_bytes: expected together with cache=, the folder of the cache")
    source = ObjectFolder(url)
    manifest, _ = fetch_manifest(source)
    folder = None if cache is None else os.path.abspath(local_path(cache))
    return (RemoteJpegStore if manifest.codec == JpegStore.codec else RemoteStore)(
        source, manifest, folder, cache_bytes
    )


def _call_if_alive(method: weakref.WeakMethod[Any]) -> Any:
    def call(number: int) -> None:
        if (found := method()) is not None:
            found(number)

    return call
