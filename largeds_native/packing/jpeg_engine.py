"""Packs the items of a batch into rows that are JPEG files."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from largeds_native._internal.arrays import Array
from largeds_native.packing.engine import Engine, Int64Array, OnBatchProgress, RunningBatch
from largeds_native.packing.options import PackOptions
from largeds_native.packing.value_engine import ValueEngine
from largeds_native.sources import Item
from largeds_native.store.format.sample_log import CORE, KEPT, NOT_DECODED, PILLOW, JpegRows, SampleResults

if TYPE_CHECKING:
    from largeds_native import _C


def make_engine(options: PackOptions, size: tuple[int, int], threads: int, folder: Path | None = None) -> Engine:
    """`folder`: of the store, if rows are written."""
    if options.codec == "jpeg":
        return JpegEngine(options, threads, folder)
    if options.values is not None:
        return ValueEngine(options, options.values, size, threads)
    return Engine(options, size, threads)


class JpegEngine(Engine):
    """The rows of a batch lie one after another, and a failed item has none. What Pillow decodes is written to a file
    of its own first, in `folder`, since the lengths of these rows are not known before, and then put in its places."""

    def __init__(self, options: PackOptions, threads: int, folder: Path | None) -> None:
        super().__init__(options, (0, 0), threads)
        self._folder = folder
        self._later: IO[bytes] | None = None  # rows from Pillow, in order
        self._later_bytes = 0

    def _make_packer(self, size: tuple[int, int]) -> _C.Packer:
        from largeds_native import _C

        options = self._options
        spec = options.transform.core((1, 1), options.layout)
        return _C.Packer(spec, self._threads, jpeg_quality=options.quality, restarts=options.restarts)

    def _complete(self, batch: RunningBatch, results: SampleResults, on_progress: OnBatchProgress) -> None:
        results.jpeg = rows = _rows_of(self._packer.jpeg())
        verbatim = (rows.kept == KEPT.index("verbatim")) & (results.decoder == CORE)
        foreign = self._foreign(batch, results)
        self._later_bytes = 0
        try:
            if foreign and batch.descriptor >= 0:
                # without a name: it is gone when it is closed, however the process ends
                self._later = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed below
            self._with_pillow(batch, results, on_progress)
            if self._later is not None:
                self._insert(batch, results, rows)
        finally:
            if self._later is not None:
                self._later.close()
                self._later = None
        results.decoder[verbatim & (results.decoder == CORE)] = NOT_DECODED
        rows.bytes[list(results.errors)] = 0

    def _close_gaps(self, batch: RunningBatch, results: SampleResults) -> None:
        """What failed in the core has no row; what failed later has one."""
        rows = results.jpeg
        assert rows is not None
        failed = np.zeros(len(rows.bytes), bool)
        failed[list(results.errors)] = True
        if rows.bytes[failed].any():
            drop_rows(batch.descriptor, batch.offset, rows.bytes, ~failed)
        rows.bytes[failed] = 0

    def _insert(self, batch: RunningBatch, results: SampleResults, rows: JpegRows) -> None:
        from largeds_native import _C

        assert self._later is not None
        inserted = (results.decoder == PILLOW).astype(np.uint8)
        if inserted.any():
            _C.insert_rows(batch.descriptor, batch.offset, rows.bytes, inserted, self._later.fileno())

    def _start_pixels(self, batch: RunningBatch, indices: Int64Array, pixels: tuple[Array, ...]) -> None:
        descriptor = -1 if self._later is None else self._later.fileno()
        self._packer.start(pixels, descriptor, self._later_bytes, None, batch.samples[indices])

    def _pack_pixels(self, batch: RunningBatch, decoded: list[tuple[int, Array]], results: SampleResults) -> None:
        super()._pack_pixels(batch, decoded, results)
        rows, found = results.jpeg, _rows_of(self._packer.jpeg())
        assert rows is not None
        for at, (i, _) in enumerate(decoded):
            for column in ("kept", "bytes", "size", "orientation", "psnr"):
                getattr(rows, column)[i] = getattr(found, column)[at]
            rows.source_bytes[i] = _encoded_bytes(batch.items[i])
        self._later_bytes += int(found.bytes.sum())


def drop_rows(descriptor: int, offset: int, lengths: Int64Array, kept: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
    """Moves the kept ones of consecutive rows of these lengths together, from byte `offset` of a file on."""
    starts = offset + np.cumsum(lengths) - lengths
    to = offset
    for start, length in zip(starts[kept].tolist(), lengths[kept].tolist(), strict=True):
        if start != to:
            row = os.pread(descriptor, length, start)
            if len(row) != length or os.pwrite(descriptor, row, to) != length:
                raise OSError(errno.EIO, "a row could not be moved in the file of a shard")
        to += length


def _rows_of(columns: dict[str, Any]) -> JpegRows:
    size = np.stack([columns["height"], columns["width"]], axis=1)
    others = {name: columns[name] for name in ("kept", "bytes", "orientation", "psnr", "source_bytes")}
    return JpegRows(size=size, **others)


def _encoded_bytes(item: Item) -> int:
    """Of an image that is not decoded yet."""
    if isinstance(item, str):
        return os.stat(item).st_size
    return item[2] if isinstance(item, tuple) else len(item)  # type: ignore[arg-type]
