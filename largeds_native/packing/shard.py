"""One shard: written under a temporary name, synced, renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from largeds_native.errors import DecodeError
from largeds_native.packing.engine import DECODERS, Engine, Rows
from largeds_native.packing.plan import Plan, shard_name
from largeds_native.packing.record import RECORD, SampleLog, ShardRecord
from largeds_native.packing.statistics import Sums
from largeds_native.sources import Batch
from largeds_native.store.files import atomic_write_bytes, reserve, sync
from largeds_native.store.npy import DATA_OFFSET, Array, file_size, header_bytes, write_array
from largeds_native.store.samples import SAMPLES

Watch = Callable[[int, int], None]  # (samples done in this shard, of which failed); may raise to stop


class ShardWriter:
    """Packs shard `number` of the plan: `fill` packs, `finish` makes it durable and gives it its name."""

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

    def fill(self, engine: Engine, raise_errors: bool, watch: Watch) -> None:
        """Packs the shard's samples into images.npy, failed ones left out."""
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir()
        start, stop = self._range
        images = self._temporary / "images.npy"
        reserve(images, DATA_OFFSET + (stop - start) * engine.sample_bytes)
        with open(images, "r+b") as file:
            try:
                self._pack(file.fileno(), engine, raise_errors, watch)
            except BaseException:
                engine.abort()  # before the file is closed
                raise

    def _pack(self, descriptor: int, engine: Engine, raise_errors: bool, watch: Watch) -> None:
        """While threads pack a batch, the one before is written into the books, and the next is fetched."""
        start, stop = self._range
        batches = self._plan.source.read(start, stop)
        batch = next(batches, None)
        done: tuple[Batch, Rows] | None = None
        while batch is not None:
            samples = np.arange(start + self.samples, start + self.samples + len(batch.items))
            engine.start(batch.items, samples, descriptor, DATA_OFFSET + self._rows * engine.sample_bytes)
            self._note(done)
            following = next(batches, None)
            before, failed = self.samples, self.failed
            result = engine.finish(lambda n, before=before, failed=failed: watch(before + n, failed))  # type: ignore[misc]
            self._check(batch, result, raise_errors)
            self._rows += len(batch.items) - len(result.errors)
            self.samples += len(batch.items)
            done, batch = (batch, result), following
        self._note(done)

    def _check(self, batch: Batch, result: Rows, raise_errors: bool) -> None:
        for index, (reason, message) in result.errors.items():
            result.errors[index] = reason, _without_folder(message, batch, index)
        if raise_errors and result.errors:
            index, (_, message) = min(result.errors.items())
            raise DecodeError(message if batch.names[index] in message else f"{batch.names[index]}: {message}")

    def _note(self, done: tuple[Batch, Rows] | None) -> None:
        if done is None:
            return
        batch, result = done
        good = result.good()
        self._log.add(batch.names, result, good)
        self._sums += result.sums
        for name, parts in self._fields.items():
            parts.append(np.asarray(batch.fields[name])[good])

    @property
    def failed(self) -> int:
        return self.samples - self._rows

    def discard(self) -> None:
        shutil.rmtree(self._temporary, ignore_errors=True)

    def finish(self) -> ShardRecord:
        """Cuts the file to the rows that it has, writes what belongs to them, and renames the folder."""
        images = self._temporary / "images.npy"
        dtype = np.dtype(self._plan.options.dtype).newbyteorder("<")
        shape = self._plan.images_shape(self._rows)
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
        sync(self._final.parent)
        return record


def _without_folder(message: str, batch: Batch, index: int) -> str:
    """Messages name files as the store does: relative to the source, the same wherever it lies."""
    item = batch.items[index]
    path = item[0] if isinstance(item, tuple) else item
    return message.replace(path, batch.names[index]) if isinstance(path, str) else message
