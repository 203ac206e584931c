"""Writes rows of pixels to a new store, byte for byte, as durably as a pack."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np

from largeds_native._internal.arrays import Array
from largeds_native._internal.machine import usable_threads
from largeds_native.errors import ArgumentError, PackError
from largeds_native.store.format.files import sync
from largeds_native.store.format.sample_log import PIXELS, SampleResults
from largeds_native.store.format.shard_record import ShardRecord
from largeds_native.store.format.statistics import Sums, sums_of
from largeds_native.store.format.writer import ShardWriter, commit
from largeds_native.store.metadata import Metadata


class RawStoreWriter:
    """Writes a store in blocks of rows. The store gets its name only if the `with` block ends without an exception."""

    def __init__(self, out: str | os.PathLike[str], metadata: Metadata, shard_bytes: int) -> None:
        self._final = Path(os.path.abspath(out))
        if os.path.lexists(self._final):
            raise ArgumentError(f"{self._final} exists: choose another folder or remove it")
        if not self._final.parent.is_dir():
            raise ArgumentError(f"{self._final.parent} is not a folder: expected where to write {self._final.name}")
        self._folder = self._final.with_name(f".{self._final.name}.{os.getpid()}.tmp")
        self._metadata = metadata
        self._shard_rows = max(1, shard_bytes // metadata.sample_bytes)
        self._records: list[ShardRecord] = []
        self._shard: ShardWriter | None = None

    def __enter__(self) -> RawStoreWriter:
        self._folder.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            if self._shard is not None:
                self._shard.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, rows: Array, fields: dict[str, Array], names: list[str]) -> None:
        """Appends rows (n, sample_bytes) with n values of each field and the names of their sources."""
        while len(rows):
            if self._shard is None:
                self._shard = ShardWriter(self._folder, len(self._records), self._metadata)
            n = min(len(rows), self._shard_rows - self._shard.rows)
            pictures = {
                name: fields[name][:n].astype(spec.dtype, copy=False) for name, spec in self._metadata.pictures.items()
            }
            self._shard.append(rows[:n], pictures)
            results = self._results(rows[:n])
            results.pictures = {name: _hashed(mask, results) for name, mask in pictures.items()}
            self._shard.log(names[:n], results, {name: values[:n] for name, values in fields.items()})
            rows, names = rows[n:], names[n:]
            fields = {name: values[n:] for name, values in fields.items()}
            if self._shard.rows == self._shard_rows:
                self._finish_shard()

    def _results(self, rows: Array) -> SampleResults:
        """Results of rows without failures."""
        from largeds_native import _C

        n, metadata = len(rows), self._metadata
        height, width = metadata.image_size
        sums = Sums.zero(metadata.channels)
        if metadata.dtype == np.uint8 and metadata.channels <= 4:  # else store.statistics reads the rows
            sums = sums_of(rows.reshape(n * metadata.variants, -1), metadata.channels, metadata.layout == "CHW")
        return SampleResults(
            width=np.full(n, width, np.int32),
            height=np.full(n, height, np.int32),
            hash=_C.hash_rows(rows.data, metadata.sample_bytes, usable_threads()),
            decoder=np.full(n, PIXELS, np.uint8),
            sums=sums,
        )

    def _finish_shard(self) -> None:
        assert self._shard is not None
        self._records.append(self._shard.finish())
        self._shard = None

    def _finish(self) -> None:
        if self._shard is not None:
            self._finish_shard()
        if not self._records:
            raise PackError("expected at least one image to import, found none")
        commit(self._folder, self._records, self._metadata)
        self._folder.rename(self._final)
        sync(self._final.parent)


def _hashed(pictures: Array, images: SampleResults) -> SampleResults:
    """The results of these pictures, beside those of their images."""
    from largeds_native import _C

    rows = np.ascontiguousarray(pictures).reshape(len(pictures), -1).view(np.uint8)
    return replace(images, hash=_C.hash_rows(rows.data, rows.shape[1], usable_threads()), pictures={})
