"""One shard: written under a temporary name, synced, renamed."""

from __future__ import annotations

import mmap
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from largeds_native.errors import DecodeError
from largeds_native.pack.engine import DECODERS, Engine, Rows
from largeds_native.pack.normalise import Normaliser
from largeds_native.pack.plan import Plan, shard_name
from largeds_native.pack.record import RECORD, SampleLog, ShardRecord
from largeds_native.pack.statistics import Sums, sums_of
from largeds_native.sources import Batch
from largeds_native.store.files import atomic_write_bytes, reserve, sync_folder
from largeds_native.store.npy import DATA_OFFSET, Array, file_size, header_bytes, write_array
from largeds_native.store.store import SAMPLES

Watch = Callable[[int, int], None]  # (samples done in this shard, of which failed); may raise to stop


class ShardWriter:
    """Packs shard `number` of the plan: `fill` decodes, `finish` makes it durable and gives it its name."""

    def __init__(self, plan: Plan, number: int, folder: Path, fingerprint: str) -> None:
        self._plan = plan
        self._fingerprint = fingerprint
        self._final = folder / shard_name(number)
        self._temporary = folder / f".{shard_name(number)}.tmp"
        self._range = plan.samples(number)
        self._log = SampleLog()
        self._fields: dict[str, list[Array]] = {name: [] for name in plan.source.fields}
        self._sums = Sums.zero(plan.options.channels)
        self._rows = 0
        self.samples = 0

    def fill(self, engine: Engine, normaliser: Normaliser | None, raise_errors: bool, watch: Watch) -> None:
        """Decodes the shard's samples into the mapped images.npy, failed ones left out."""
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir()
        start, stop = self._range
        images = self._temporary / "images.npy"
        reserve(images, DATA_OFFSET + (stop - start) * self._plan.row_bytes)
        with open(images, "r+b") as file:
            mapping = mmap.mmap(file.fileno(), 0)
        rows = np.frombuffer(mapping, np.uint8, offset=DATA_OFFSET).reshape(stop - start, self._plan.row_bytes)
        for batch in self._plan.source.read(start, stop):
            self._pack_batch(batch, rows, mapping, engine, normaliser, raise_errors, watch)

    def _pack_batch(
        self,
        batch: Batch,
        rows: Array,
        mapping: mmap.mmap,
        engine: Engine,
        normaliser: Normaliser | None,
        raise_errors: bool,
        watch: Watch,
    ) -> None:
        n, before = len(batch.items), self.samples
        room = rows[self._rows : self._rows + n]
        out = room if normaliser is None else np.empty((n, self._plan.pixels), np.uint8)

        def tick(done: int) -> None:
            _release(mapping, self._rows, done, self._plan.row_bytes)
            watch(before + done, before - self._rows)

        result = engine.rows(batch.items, out, tick)
        for index, (reason, message) in result.errors.items():
            result.errors[index] = reason, _without_folder(message, batch, index)
        if raise_errors and result.errors:
            index, (_, message) = min(result.errors.items())
            raise DecodeError(message if batch.names[index] in message else f"{batch.names[index]}: {message}")
        good = result.good()
        compact(out, good)
        self._sums += sums_of(out[: len(good)], self._plan.options.channels, self._plan.options.layout == "CHW")
        if normaliser is not None:
            normaliser.apply(out[: len(good)], room[: len(good)])
        self._note(batch, result, good, room[: len(good)])
        _release(mapping, self._rows, 0, self._plan.row_bytes)

    def _note(self, batch: Batch, result: Rows, good: np.ndarray[Any, np.dtype[np.int64]], rows: Array) -> None:
        from largeds_native import _C

        hashes = _C.hash_rows(rows.data, self._plan.row_bytes, 2) if len(good) else np.zeros(0, np.uint64)
        self._log.add(batch.names, result, good, self._rows, hashes)
        for name, parts in self._fields.items():
            parts.append(np.asarray(batch.fields[name])[good])
        self._rows += len(good)
        self.samples += len(batch.items)

    @property
    def failed(self) -> int:
        return self.samples - self._rows

    def discard(self) -> None:
        shutil.rmtree(self._temporary, ignore_errors=True)

    def finish(self) -> ShardRecord:
        """Cuts the file to the rows that it has, writes what belongs to them, and renames the folder."""
        images = self._temporary / "images.npy"
        dtype = np.dtype(self._plan.options.dtype).newbyteorder("<")
        shape = (self._rows, *self._plan.shape)
        with open(images, "r+b") as file:
            file.truncate(file_size(dtype, shape))
            file.write(header_bytes(dtype, shape))
            file.flush()
            os.fsync(file.fileno())
        fields = {}
        for name, spec in self._plan.source.fields.items():
            parts = [part.astype(spec.dtype) for part in self._fields[name]]
            fields[name] = np.concatenate(parts) if parts else np.empty((0, *spec.shape), spec.dtype)
            write_array(self._temporary / f"{name}.npy", fields[name])
        self._log.write(self._temporary / SAMPLES)
        record = ShardRecord(
            name=self._final.name,
            plan=self._fingerprint,
            rows=self._rows,
            samples=self.samples,
            failed=dict(sorted(self._log.failed.items())),
            decoders={name: self._log.decoders[name] for name in DECODERS if self._log.decoders[name]},
            sums=self._sums,
            hash=self._log.digest(fields),
        )
        atomic_write_bytes(self._temporary / RECORD, record.to_bytes())
        self._temporary.rename(self._final)
        sync_folder(self._final.parent)
        return record


def _without_folder(message: str, batch: Batch, index: int) -> str:
    """Messages name files as the store does: relative to the source, the same wherever it lies."""
    item = batch.items[index]
    return message.replace(item, batch.names[index]) if isinstance(item, str) else message


def compact(rows: Array, good: np.ndarray[Any, np.dtype[np.int64]]) -> None:
    """Moves the rows `good` (ascending) to the front, in order, in place."""
    first = int(np.argmax(good != np.arange(len(good)))) if len(good) else 0
    if not len(good) or good[first] == first:
        return
    step = max(1, (1 << 20) // max(1, rows.shape[1]))
    for low in range(first, len(good), step):
        chosen = good[low : low + step]
        rows[low : low + len(chosen)] = rows[chosen]  # reads a copy first, and never rows below `low`


def _release(mapping: mmap.mmap, row: int, done: int, row_bytes: int) -> None:
    """Takes written pages out of this process's memory; the page cache keeps them and the kernel writes them out."""
    end = (DATA_OFFSET + (row + done) * row_bytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if end > 0:
        mapping.madvise(mmap.MADV_DONTNEED, 0, end)
