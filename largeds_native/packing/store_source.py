"""The images of a store as a source: to make raw rows of JPEG rows, and JPEG rows of raw ones."""

from __future__ import annotations

import bisect
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from largeds_native._internal.arrays import Array, FieldSpec, ValueSpec
from largeds_native._internal.urls import is_url, local_path
from largeds_native.errors import ArgumentError, StorageError, StoreError
from largeds_native.sources import FailedItem, IndexedSource, Item, Source, SourceBatch, as_source
from largeds_native.sources.base import Indices
from largeds_native.store import ConcatStore, JpegStore, PackedStore, Store
from largeds_native.store.base import check_local
from largeds_native.store.format.manifest import NAME as MANIFEST
from largeds_native.store.format.manifest import read_manifest

BATCH_BYTES = 64 << 20


class StoreSource(IndexedSource):
    """Of a JPEG store, the items are parts of its files; of another store, the pixels. Names are those of the first
    source.

    Raises ArgumentError for a store of floats, which may be normalised, or of several variants of each image.
    """

    def __init__(self, store: Store) -> None:
        check_local(store, "a pack of it")
        if store.dtype.kind == "f" or store.variants != 1:
            kind = f"{store.dtype} images" if store.dtype.kind == "f" else f"{store.variants} variants of each image"
            raise ArgumentError(f"{store.path} has {kind}: expected a store of integers, one image of each")
        self._store = store
        self._names: tuple[Path | None, list[str]] = (None, [])  # (folder of a shard, names of its rows)
        self.classes = tuple(store.classes)
        self.description = f"store {store.path.name}"
        self.image_size = None if store.metadata.varies else store.image_size
        if store.metadata.codec == "raw":
            self.values, self.keeps_values = ValueSpec(store.dtype, store.metadata.channels), True
        self.batch = max(1, BATCH_BYTES // store.row_bytes)
        self.walked = str(store.path) if isinstance(store, PackedStore) else None

    @property
    def fields(self) -> dict[str, FieldSpec]:
        return {name: spec for name, spec in self._store.metadata.fields.items() if not spec.is_picture}

    @property
    def pictures(self) -> dict[str, FieldSpec]:
        return self._store.metadata.pictures

    @property
    def count(self) -> int:
        return len(self._store)

    def take(self, indices: Indices) -> SourceBatch:
        rows = indices.tolist()
        fields = {name: np.asarray(self._store.field(name)[indices]) for name in self.fields}
        pictures = {name: [self._item(row, name) for row in rows] for name in self.pictures}
        return SourceBatch([self._item(row) for row in rows], [self._name(row) for row in rows], fields, pictures)

    def _part(self, row: int) -> tuple[Store, int]:
        """The store that holds a row, and its number there."""
        return self._store.row_in_store(row) if isinstance(self._store, ConcatStore) else (self._store, row)

    def _item(self, row: int, name: str = "images") -> Item:
        store, row = self._part(row)
        if isinstance(store, JpegStore):
            try:
                return store.file_range(row, name)
            except StoreError as error:  # its offsets are damaged
                return FailedItem("store", str(error), error)
        if name != "images":
            picture: Array = np.asarray(store.field(name)[row])
            return picture if picture.ndim == 2 else picture.transpose(1, 2, 0)
        pixels: Array = np.asarray(store.images[row])
        return pixels.transpose(1, 2, 0) if store.layout == "CHW" else pixels

    def _name(self, row: int) -> str:
        store, row = self._part(row)
        if not isinstance(store, PackedStore):
            return f"#{row}"
        shards = store.shards
        number = bisect.bisect_right(shards, row, key=lambda shard: shard.start) - 1
        while not shards[number].rows:  # an empty shard begins at the same row as the one before
            number -= 1
        if self._names[0] != shards[number].path:
            table: Any = store.samples_of([number], ["row", "source"])
            packed = table.filter(np.asarray(table["row"]) >= 0)
            self._names = shards[number].path, packed["source"].to_pylist()
        return self._names[1][row - shards[number].start]

    def fingerprint(self) -> str:
        return self._store.identity


def source_of(
    source: Any, exif_orientation: bool, masks: Any = None, ignore: int | None = None, pictures: Any = None
) -> Source:
    """The source for any argument of `pack`."""
    if not isinstance(source, Store):
        _refuse_path_of_store(source)
        return as_source(source, masks, ignore, pictures)
    if masks is not None or pictures is not None or ignore is not None:
        raise ArgumentError(f"masks, pictures and ignore: those of {source.path} are taken as they are: leave them out")
    for store in source.stores if isinstance(source, ConcatStore) else [source]:
        _check_orientation(store, exif_orientation)
    return StoreSource(source)


def _refuse_path_of_store(source: Any) -> None:
    """A folder of images may have a manifest.json of its own, but none that can be read as a store's."""
    if not isinstance(source, (str, os.PathLike)) or is_url(source):
        return
    path = Path(local_path(source))
    if os.path.isfile(path / MANIFEST):
        with suppress(StoreError, StorageError):
            read_manifest(path)
            raise ArgumentError(f"{os.fspath(source)} is a store: pass lds.open(...) of it, or --from-store")


def _check_orientation(store: Store, exif_orientation: bool) -> None:
    """Raises ArgumentError where the images would be turned by EXIF orientations that their own pack ignored."""
    if isinstance(store, JpegStore) and exif_orientation and store.metadata.options.get("exif_orientation") is False:
        raise ArgumentError(
            f"{store.path} was packed with exif_orientation=False, and its files still have their orientation: pass "
            "exif_orientation=False here too"
        )
