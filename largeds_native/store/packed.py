"""Stores in the format of docs/store-format.md, written by `pack` or `from_hdf5`."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from largeds_native._internal.arrays import Array
from largeds_native._internal.machine import MAX_THREADS, usable_threads
from largeds_native._internal.progress_bar import ProgressCallback, progress_of
from largeds_native.errors import StoreError
from largeds_native.store.base import IMPORT_HINT, RowFile, Store
from largeds_native.store.format.manifest import Manifest, ShardEntry, read_manifest
from largeds_native.store.format.npy import DATA_OFFSET, check_array, map_array
from largeds_native.store.format.sample_log import hash_column, read_sample_log
from largeds_native.store.format.shard_record import shard_digest
from largeds_native.store.report import Report
from largeds_native.store.verify import Verification, row_hashes
from largeds_native.transform.image_transform import integer

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Shard:
    """A folder with the images [start, start + rows) of a store."""

    path: Path
    rows: int
    start: int
    hash: str = ""


class PackedStore(Store):
    """The store in the folder `path`, as `largeds_native.open` returns it. In addition to `Store`, it records where its
    images came from (`samples`, `report`), and can be verified. This class has rows of pixels, `JpegStore` rows that
    are JPEG files.

    Opening checks the manifest, and the header and size of each file; it does not map files or read rows. Raises
    StoreError if a file is missing, incomplete, of another format, or of another version.
    """

    codec = "raw"

    def __init__(self, path: str | os.PathLike[str], manifest: Manifest | None = None) -> None:
        folder = os.path.abspath(path)
        self._manifest = manifest = manifest or read_manifest(Path(folder))
        if manifest.codec != self.codec:
            raise StoreError(f"{folder} has rows of codec {manifest.codec!r}: open it with largeds_native.open")
        super().__init__(Path(folder), manifest)
        starts = accumulate((entry.rows for entry in manifest.shards), initial=0)
        self.shards = [
            Shard(self.path / entry.name, entry.rows, start, entry.hash)
            for entry, start in zip(manifest.shards, starts, strict=False)
        ]
        self._check_files(manifest)

    def _check_files(self, manifest: Manifest) -> None:
        fields = [(name, manifest.array_spec(name)) for name in manifest.fields if name not in manifest.pictures]
        folder = self.path
        for entry in manifest.shards:  # plain strings: there may be many thousands
            shard = f"{folder}/{entry.name}"
            self._check_images(shard, entry)
            for name, spec in fields:
                check_array(f"{shard}/{name}.npy", spec.dtype, (entry.rows, *spec.shape))

    def _check_images(self, shard: str, entry: ShardEntry) -> None:
        """Raises StoreError unless the files with the images and pictures of a shard have the right format and size."""
        for name in ("images", *self.metadata.pictures):
            spec = self.metadata.array_spec(name)
            check_array(f"{shard}/{name}.npy", spec.dtype, (entry.rows, *spec.shape))

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (str(self.path),))

    def summary(self) -> list[str]:
        *facts, size = super().summary()
        return [*facts, f"{len(self.shards)} shard{'s' * (len(self.shards) != 1)}, {size}"]

    @property
    def manifest(self) -> dict[str, Any]:
        """`manifest.json` as plain data; see docs/store-format.md."""
        return self._manifest.to_json()

    @cached_property
    def identity(self) -> str:
        return self._manifest.identity

    # ---- files -----------------------------------------------------------------------------------------------
    def files(self, name: str) -> list[RowFile]:
        return [RowFile(shard.path / f"{name}.npy", DATA_OFFSET, shard.rows) for shard in self.shards]

    def _map(self, name: str, part: int) -> Array:
        shard, spec = self.shards[part], self.metadata.array_spec(name)
        path, shape = shard.path / f"{name}.npy", (shard.rows, *spec.shape)
        check_array(path, spec.dtype, shape)  # it may have been truncated after the store was opened
        return map_array(path, spec.dtype, shape)

    @property
    def shard_rows(self) -> list[int]:
        return [shard.rows for shard in self.shards]

    def using(self, shards: Sequence[int]) -> AbstractContextManager[None]:
        """While the block runs, the files of these shards are there."""
        return nullcontext()

    # ---- origin of the images ----------------------------------------------------------------------------------
    @cached_property
    def samples(self) -> pa.Table:
        """Every sample, packed or failed, in source order.

        Columns: source, row (-1: failed), width, height, status ("ok" or the reason), error, decoder, hash.
        """
        return self.samples_of(range(len(self.shards)))

    def samples_of(self, shards: Sequence[int], columns: Sequence[str] | None = None) -> pa.Table:
        """As `samples` for some shards, with all columns or these and `row`; `row` counts in the whole store."""
        import pyarrow as pa

        chosen = [self.shards[i] for i in shards]
        if not chosen:
            raise StoreError(f"{self.path} has no shards")
        return pa.concat_tables([read_sample_log(shard.path, shard.start, columns) for shard in chosen])

    @property
    def report(self) -> Report | None:
        """Counts, failures and speed of the pack; None if the store has no readable report.json."""
        return Report.read(self.path)

    def verify(self, *, threads: int | None = None, progress: bool | ProgressCallback = True) -> Verification:
        """Compares every row and every field with their hashes from the pack; see `Verification`.

        threads: by default all that the process may use.
        progress: a bar on stderr, if that is a terminal; or a function that is called with (rows done, all rows).

        `largeds_native.packing.verify_sources` compares the store with the images from which it was packed.
        """
        threads = usable_threads() if threads is None else integer("threads", threads, 1, MAX_THREADS)
        damaged: list[int] = []
        damaged_shards: list[str] = []
        with progress_of(progress, "verifying") as on_progress:
            on_progress(0, len(self))
            for index, shard in enumerate(self.shards):
                with self.using([index]):
                    rows, is_damaged = self._verify_shard(index, threads)
                damaged += [shard.start + row for row in rows]
                if is_damaged:
                    damaged_shards.append(shard.path.name)
                on_progress(shard.start + shard.rows, len(self))
        return Verification(len(self), tuple(damaged), tuple(damaged_shards))

    def _verify_shard(self, index: int, threads: int) -> tuple[list[int], bool]:
        """The damaged rows, counted in the shard, and whether its fields or hashes are damaged."""
        shard = self.shards[index]
        hashes = row_hashes(self.samples_of([index], ["row", "hash"]), shard.path, shard.rows)
        pictures = self._picture_hashes(index)
        rows: set[int] = set()
        if shard.rows:
            rows |= set(self._damaged_rows("images", index, hashes, threads))
            for name, expected in pictures.items():
                rows |= set(self._damaged_rows(name, index, expected, threads))
        return sorted(rows), not self._is_meant(index, hashes, pictures)

    def is_whole(self, index: int, threads: int = 1) -> bool:
        """Whether the rows and fields of a shard are those that the manifest means. samples.parquet, which has the
        hash of each row, is not needed."""
        hashes = self._hash_rows("images", index, threads)
        return self._is_meant(
            index, hashes, {name: self._hash_rows(name, index, threads) for name in self.metadata.pictures}
        )

    def _is_meant(self, index: int, hashes: Array, pictures: dict[str, Array]) -> bool:
        """Whether the hashes of a shard's images, its pictures and its fields make the shard's own."""
        expected = self.shards[index].hash
        hashed = {hash_column(name): found for name, found in pictures.items()}
        return not expected or shard_digest(hashes, self._hashed_arrays(index) | hashed) == expected

    def _picture_hashes(self, index: int) -> dict[str, Array]:
        """The hashes of each picture's rows in a shard."""
        shard, names = self.shards[index], list(self.metadata.pictures)
        if not names:
            return {}
        log = self.samples_of([index], ["row", *map(hash_column, names)])
        return {name: row_hashes(log, shard.path, shard.rows, hash_column(name)) for name in names}

    def _damaged_rows(self, name: str, index: int, hashes: Array, threads: int) -> list[int]:
        """The rows of a shard's images or pictures, counted there, whose bytes differ from their hashes."""
        return [int(row) for row in np.flatnonzero(self._hash_rows(name, index, threads) != hashes)]

    def _hash_rows(self, name: str, index: int, threads: int) -> Array:
        """The hashes of the rows of a shard's images or pictures as they are now. Reads every row once."""
        from largeds_native import _C

        file, spec = self.files(name)[index], self.metadata.array_spec(name)
        row_bytes = spec.dtype.itemsize * math.prod(spec.shape)
        return _C.hash_file((str(file.path), file.offset, file.rows), row_bytes, threads)

    def _hashed_arrays(self, index: int) -> dict[str, Array]:
        """The arrays beside the images and pictures of a shard whose bytes are in its hash."""
        return {name: self.part(name, index) for name in self.fields if name not in self.metadata.pictures}


def as_packed(store: Store) -> PackedStore:
    """The store as a `PackedStore`; StoreError if it is another kind of store."""
    if not isinstance(store, PackedStore):
        raise StoreError(
            f"{store.path} was not packed by largeds: it has no list of samples and no hashes. {IMPORT_HINT}"
        )
    return store
