"""Writes a store: shard by shard, each under a temporary name until it is complete, and the manifest last."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from largeds_native._internal.arrays import Array
from largeds_native.store.format import manifest, sample_log, shard_record
from largeds_native.store.format.files import atomic_write_bytes, reserve, sync
from largeds_native.store.format.manifest import Manifest, ShardEntry
from largeds_native.store.format.npy import DATA_OFFSET, file_size, header_bytes, write_array
from largeds_native.store.format.sample_log import DECODERS, SampleLog, SampleResults
from largeds_native.store.format.shard_record import ShardRecord, shard_digest, shard_name
from largeds_native.store.format.statistics import Sums, mean_std
from largeds_native.store.metadata import Metadata


class ShardWriter:
    """Writes one shard.

    Rows are written to images.npy in one of two ways: by `append`; or the caller allocates disk space with `reserve`,
    writes rows at `offset` of the file `descriptor` (as packing does, from threads of the core), and counts them with
    `advance`. Then `log` records the samples of these rows, and `finish` renames the shard to its final name.

    plan: the fingerprint of the pack, by which a resumed pack finds its finished shards; without it, no shard.json is
    written.
    """

    def __init__(self, folder: Path, number: int, metadata: Metadata, plan: str = "") -> None:
        self._metadata, self._plan = metadata, plan
        self._final = folder / shard_name(number)
        self._temporary = folder / f".{self._final.name}.tmp"
        self._images = self._temporary / "images.npy"
        self._log = SampleLog()
        self._fields: dict[str, list[Array]] = {name: [] for name in metadata.fields}
        self._sums = Sums.zero(metadata.channels)
        self._samples = 0
        self._file: Any = None
        self.rows = 0
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir()

    @property
    def descriptor(self) -> int:
        """File descriptor of images.npy, which is open for writing after `reserve`."""
        return int(self._file.fileno())

    @property
    def offset(self) -> int:
        """The byte of images.npy at which the next row begins."""
        return DATA_OFFSET + self.rows * self._metadata.sample_bytes

    def reserve(self, rows: int) -> None:
        """Allocates disk space for `rows` rows in total; raises StorageError if the disk is full."""
        reserve(self._images, DATA_OFFSET + rows * self._metadata.sample_bytes)
        if self._file is None:
            self._file = open(self._images, "r+b", buffering=0)  # noqa: SIM115 - closed by `close`

    def advance(self, rows: int) -> None:
        """Counts rows that the caller has written at `offset`."""
        self.rows += rows

    def append(self, rows: Array) -> None:
        """Writes rows (n, bytes of a sample)."""
        self.reserve(self.rows + len(rows))
        view, offset = rows.reshape(-1).view(np.uint8).data, self.offset
        while view:
            n = os.pwrite(self.descriptor, view, offset)
            view, offset = view[n:], offset + n
        self.advance(len(rows))

    def log(self, names: list[str], results: SampleResults, fields: Mapping[str, Array]) -> None:
        """Records the results of the next samples; the good ones are the next rows."""
        good = results.good()
        self._log.add(names, results)
        self._sums += results.sums
        self._samples += len(names)
        for name, parts in self._fields.items():
            parts.append(np.asarray(fields[name])[good])

    def close(self) -> None:
        """Closes images.npy; an unfinished shard keeps its temporary name."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def discard(self) -> None:
        """Removes the unfinished shard."""
        self.close()
        shutil.rmtree(self._temporary, ignore_errors=True)

    def finish(self) -> ShardRecord:
        """Truncates images.npy to its rows, writes fields and records, syncs, and renames the folder."""
        self._finish_images()
        fields = {}
        for name, spec in self._metadata.fields.items():
            parts = [part.astype(spec.dtype, copy=False) for part in self._fields[name]]
            fields[name] = np.concatenate(parts) if parts else np.empty((0, *spec.shape), spec.dtype)
            write_array(self._temporary / f"{name}.npy", fields[name])
        self._log.write(self._temporary / sample_log.NAME)
        record = ShardRecord(
            name=self._final.name,
            plan=self._plan,
            rows=self.rows,
            samples=self._samples,
            failed=dict(sorted(self._log.failed.items())),
            decoders={name: self._log.decoders[name] for name in DECODERS if self._log.decoders[name]},
            sums=self._sums,
            hash=shard_digest(self._log.row_hashes(), fields),
        )
        if self._plan:
            atomic_write_bytes(self._temporary / shard_record.NAME, record.to_bytes())
        sync(self._temporary)
        self._temporary.rename(self._final)
        sync(self._final.parent)
        return record

    def _finish_images(self) -> None:
        shape = self._metadata.images_shape(self.rows)
        try:
            os.ftruncate(self.descriptor, file_size(self._metadata.dtype, shape))
            os.pwrite(self.descriptor, header_bytes(self._metadata.dtype, shape), 0)
            os.fsync(self.descriptor)
        finally:
            self.close()


def commit(folder: Path, records: Iterable[ShardRecord], metadata: Metadata) -> Manifest:
    """Makes a store of finished shards by writing the manifest; before that, the folder is not a store."""
    records = list(records)
    known: dict[str, Any] = vars(metadata) | {
        "rows": sum(record.rows for record in records),
        "shards": tuple(ShardEntry(record.name, record.rows, record.hash) for record in records),
        "statistics": mean_std((record.sums for record in records), metadata.channels),
    }
    written = Manifest(**known)
    atomic_write_bytes(folder / manifest.NAME, written.to_bytes())
    return written
