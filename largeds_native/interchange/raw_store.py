"""Writes rows that are pixels already into a store, byte for byte, with the durability of a pack."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from largeds_native._internal.machine import usable_threads
from largeds_native.errors import ArgumentError, PackError
from largeds_native.packing.engine import PIXELS, Rows
from largeds_native.packing.record import SampleLog
from largeds_native.packing.statistics import Sums, mean_std, sums_of
from largeds_native.store.files import atomic_write_bytes, reserve, sync
from largeds_native.store.manifest import NAME, Manifest, ShardEntry
from largeds_native.store.npy import file_size, header_bytes, write_array
from largeds_native.store.samples import SAMPLES

Array = np.ndarray[Any, np.dtype[Any]]


class RawStoreWriter:
    """A store that grows by blocks of rows; it exists under its name only after a block of `with` that ended well."""

    def __init__(self, out: str | os.PathLike[str], manifest: Manifest, shard_bytes: int) -> None:
        self._final = Path(os.path.abspath(out))
        if os.path.lexists(self._final):
            raise ArgumentError(f"{self._final} exists: name another folder or remove it")
        if not self._final.parent.is_dir():
            raise ArgumentError(f"{self._final.parent} is not a folder: expected where to write {self._final.name}")
        self._folder = self._final.with_name(f".{self._final.name}.{os.getpid()}.tmp")
        self._manifest = manifest
        self._row_bytes = manifest.row_bytes * manifest.variants
        self._shard_rows = max(1, shard_bytes // self._row_bytes)
        self._shards: list[ShardEntry] = []
        channels = manifest.shape[0 if manifest.layout == "CHW" else 2]
        self._sums = Sums.zero(channels)
        self._channels = channels
        self._begin_shard()

    def _begin_shard(self) -> None:
        self._rows = 0
        self._log = SampleLog()
        self._fields: dict[str, list[Array]] = {name: [] for name in self._manifest.fields}
        self._file: Any = None

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
            if self._file is not None:
                self._file.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, rows: Array, fields: dict[str, Array], names: list[str]) -> None:
        """Appends rows (n, bytes of a row, all variants) with n values of each field and the names of their sources."""
        while len(rows):
            if self._file is None:
                self._open_images()
            n = min(len(rows), self._shard_rows - self._rows)
            self._write(rows[:n], {name: values[:n] for name, values in fields.items()}, names[:n])
            rows, names = rows[n:], names[n:]
            fields = {name: values[n:] for name, values in fields.items()}
            if self._rows == self._shard_rows:
                self._end_shard()

    @property
    def _shard(self) -> Path:
        return self._folder / f"shard-{len(self._shards):05d}"

    def _open_images(self) -> None:
        self._shard.mkdir()
        self._file = open(self._shard / "images.npy", "xb", buffering=0)  # noqa: SIM115 - closed by _end_shard
        self._file.seek(file_size(self._manifest.dtype, (0,)))

    def _write(self, rows: Array, fields: dict[str, Array], names: list[str]) -> None:
        from largeds_native import _C

        view = rows.reshape(-1).data
        start = self._file.tell()
        reserve(self._shard / "images.npy", start + len(view))
        while view:
            view = view[self._file.write(view) :]
        n = len(rows)
        layout = self._manifest.layout
        height, width = self._manifest.shape[1 if layout == "CHW" else 0 :][:2]
        sums = Sums.zero(self._channels)
        if self._manifest.dtype == np.uint8:
            sums = sums_of(rows.reshape(n * self._manifest.variants, -1), self._channels, layout == "CHW")
        kept = Rows(
            width=np.full(n, width, np.int32),
            height=np.full(n, height, np.int32),
            hash=_C.hash_rows(rows.data, self._row_bytes, usable_threads()),
            decoder=np.full(n, PIXELS, np.uint8),
            sums=sums,
        )
        self._log.add(names, kept, np.arange(n))
        self._sums += sums
        for name, values in fields.items():
            self._fields[name].append(values)
        self._rows += n

    def _end_shard(self) -> None:
        shape = self._manifest.images_shape(self._rows)
        self._file.truncate(file_size(self._manifest.dtype, shape))
        self._file.seek(0)
        self._file.write(header_bytes(self._manifest.dtype, shape))
        os.fsync(self._file.fileno())
        self._file.close()
        fields = {}
        for name, spec in self._manifest.fields.items():
            fields[name] = np.concatenate(self._fields[name]).astype(spec.dtype, copy=False)
            write_array(self._shard / f"{name}.npy", fields[name])
        self._log.write(self._shard / SAMPLES)
        sync(self._shard)
        self._shards.append(ShardEntry(self._shard.name, self._rows, self._log.digest(fields)))
        self._begin_shard()

    def _finish(self) -> None:
        if self._rows:
            self._end_shard()
        if not self._shards:
            raise PackError("there is no image to import: expected at least one row, found none")
        manifest = dataclasses.replace(
            self._manifest,
            rows=sum(shard.rows for shard in self._shards),
            shards=tuple(self._shards),
            statistics=mean_std([self._sums], self._channels),
        )
        atomic_write_bytes(self._folder / NAME, manifest.to_bytes())
        sync(self._folder)
        self._folder.rename(self._final)
        sync(self._final.parent)
