"""Writes a store: shard by shard, each under a temporary name until it is complete, and the manifest last."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from largeds_native._internal.arrays import Array
from largeds_native.store.format import manifest, sample_log, shard_record
from largeds_native.store.format.files import atomic_write_bytes, sync
from largeds_native.store.format.images_file import EncodedImages, ImagesFile, RawImages, hashed_arrays
from largeds_native.store.format.manifest import Manifest, ShardEntry
from largeds_native.store.format.npy import write_array
from largeds_native.store.format.sample_log import DECODERS, SampleLog, SampleResults, hash_column
from largeds_native.store.format.shard_record import ShardRecord, shard_digest, shard_name
from largeds_native.store.format.statistics import Sums, mean_std
from largeds_native.store.metadata import Metadata, SizeRange


class ShardWriter:
    """Writes one shard.

    Rows are written to images.npy, or images.bin of a JPEG store, in one of two ways: by `append`; or the caller begins
    with `reserve`, which allocates the disk space of raw rows, writes rows at `offset` of the file `descriptor` (as
    packing does, from threads of the core), and counts them with `advance`. Then `log` records the samples of these
    rows, and `finish` renames the shard to its final name.

    plan: the fingerprint of the pack, by which a resumed pack finds its finished shards; without it, no shard.json is
    written.
    temporary: the folder, in the same file system, in which the shard is written until it is finished.
    """

    def __init__(
        self, folder: Path, number: int, metadata: Metadata, plan: str = "", temporary: Path | None = None
    ) -> None:
        self._metadata, self._plan = metadata, plan
        jpeg = metadata.codec == "jpeg"
        self._final = folder / shard_name(number)
        self._temporary = temporary or folder / f".{self._final.name}.tmp"
        self._images = self._rows_file("images")
        self._pictures = {name: self._rows_file(name) for name in metadata.pictures}
        self._log = SampleLog(jpeg, list(self._pictures))
        self._fields: dict[str, list[Array]] = {name: [] for name in metadata.fields if name not in self._pictures}
        self._sums = Sums.zero(metadata.channels)
        self._samples = 0
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir()

    def _rows_file(self, name: str) -> ImagesFile:
        if self._metadata.codec == "jpeg":
            return EncodedImages(self._temporary, name)
        return RawImages(self._temporary / f"{name}.npy", self._metadata.array_spec(name))

    @property
    def rows(self) -> int:
        """Number of rows so far."""
        return self._images.rows

    @property
    def descriptor(self) -> int:
        """File descriptor of the images, which is open for writing after `reserve`."""
        return self._images.descriptor

    @property
    def offset(self) -> int:
        """The byte of the file of images at which the next row begins."""
        return self._images.offset

    def picture_target(self, name: str) -> tuple[int, int]:
        """As (`descriptor`, `offset`) for the rows of a picture."""
        return self._pictures[name].descriptor, self._pictures[name].offset

    def reserve(self, rows: int) -> None:
        """Opens the files of images and pictures, and allocates disk space for `rows` raw rows in total.

        Raises StorageError if the disk is full.
        """
        for file in (self._images, *self._pictures.values()):
            file.reserve(rows)

    def advance(self, rows: int, results: SampleResults | None = None) -> None:
        """Counts rows that the caller has written at `offset`, and at that of each picture; `results`: of their
        samples, where rows are files."""
        self._images.advance(rows, _file_bytes(results))
        for name, file in self._pictures.items():
            file.advance(rows, _file_bytes(results and results.pictures[name]))

    def append(
        self, rows: Array | Sequence[bytes], pictures: Mapping[str, Array | Sequence[bytes]] | None = None
    ) -> None:
        """Writes rows: an array (n, ...) of images, or JPEG files; and of each picture."""
        self.reserve(self.rows + len(rows))
        _append(self._images, rows)
        for name, file in self._pictures.items():
            _append(file, (pictures or {})[name])

    def log(self, names: list[str], results: SampleResults, fields: Mapping[str, Array]) -> None:
        """Records the results of the next samples; the good ones are the next rows."""
        good = results.good()
        self._log.add(names, results)
        self._sums += results.sums
        self._samples += len(names)
        for name, parts in self._fields.items():
            parts.append(np.asarray(fields[name])[good])

    def close(self) -> None:
        """Closes the file of images; an unfinished shard keeps its temporary name."""
        for file in (self._images, *self._pictures.values()):
            file.close()

    def discard(self) -> None:
        """Removes the unfinished shard."""
        self.close()
        shutil.rmtree(self._temporary, ignore_errors=True)

    def finish(self, publish: Callable[[str, Path], None] | None = None) -> ShardRecord:
        """Finishes the images, writes fields and records, syncs, and renames the folder. Another process may have
        finished the same shard meanwhile: then its folder stays. `publish` is called with the shard's name and the
        folder before that is renamed."""
        jpeg = self._log.jpeg_rows()
        for file in (self._images, *self._pictures.values()):
            file.finish()
        if isinstance(self._images, EncodedImages) and jpeg is not None:
            self._images.write_offsets(jpeg.bytes)
            self._images.write_sizes(jpeg)
        hashed: dict[str, Array] = {} if jpeg is None else hashed_arrays(jpeg)
        for name, file in self._pictures.items():
            if isinstance(file, EncodedImages):
                file.write_offsets(self._log.picture_bytes(name))
            hashed[hash_column(name)] = self._log.picture_hashes(name)
        fields = {}
        for name in self._fields:
            spec = self._metadata.fields[name]
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
            hash=shard_digest(self._log.row_hashes(), fields | hashed),
            libraries=dict(self._metadata.libraries),
            picture_bytes={name: f.offset for name, f in self._pictures.items() if isinstance(f, EncodedImages)},
            **({} if jpeg is None else jpeg.summary()),
        )
        if self._plan:
            atomic_write_bytes(self._temporary / shard_record.NAME, record.to_bytes())
        sync(self._temporary)
        if publish is not None:
            publish(self._final.name, self._temporary)
        try:
            self._temporary.rename(self._final)
        except OSError:
            if not (self._final / shard_record.NAME).exists():
                raise
            shutil.rmtree(self._temporary, ignore_errors=True)
        sync(self._final.parent)
        return record


def _append(file: ImagesFile, rows: Array | Sequence[bytes]) -> None:
    data = rows if isinstance(rows, np.ndarray) else np.frombuffer(b"".join(rows), np.uint8)
    view, offset = np.ascontiguousarray(data).reshape(-1).view(np.uint8).data, file.offset
    while view:
        n = os.pwrite(file.descriptor, view, offset)
        view, offset = view[n:], offset + n
    file.advance(len(rows), data.nbytes)


def _file_bytes(results: SampleResults | None) -> int:
    """Of rows that are files."""
    return 0 if results is None or results.jpeg is None else int(results.jpeg.bytes.sum())


def commit(folder: Path, records: Iterable[ShardRecord], metadata: Metadata) -> Manifest:
    """Makes a store of finished shards by writing the manifest; before that, the folder is not a store."""
    written = manifest_of(records, metadata)
    atomic_write_bytes(folder / manifest.NAME, written.to_bytes())
    return written


def manifest_of(records: Iterable[ShardRecord], metadata: Metadata) -> Manifest:
    """The manifest of a store of these shards."""
    records = list(records)
    known: dict[str, Any] = vars(metadata) | {
        "rows": sum(record.rows for record in records),
        "shards": tuple(ShardEntry(r.name, r.rows, r.hash, r.bytes, r.turned, r.picture_bytes) for r in records),
        "statistics": mean_std((record.sums for record in records), metadata.channels),
    }
    if metadata.codec == "jpeg":
        known |= _jpeg_sizes(records, metadata)
    return Manifest(**known)


def _jpeg_sizes(records: list[ShardRecord], metadata: Metadata) -> dict[str, Any]:
    """What the manifest of a JPEG store says of its images, from the shards; their pixels were not summed."""
    bounds = [(record.min_size, record.max_size) for record in records if record.rows]
    low, high = [bound[0] for bound in bounds], [bound[1] for bound in bounds]
    sizes = SizeRange(
        min=(min((h for h, _ in low), default=0), min((w for _, w in low), default=0)),
        max=(max((h for h, _ in high), default=0), max((w for _, w in high), default=0)),
        bytes=sum(record.bytes for record in records),
    )
    shape = manifest.jpeg_shape(metadata.channels, metadata.layout, sizes)
    return {"sizes": sizes, "shape": shape, "statistics": None}
