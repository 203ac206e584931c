"""`samples.parquet`: the result of each source sample, one line per sample, in each shard."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from largeds_native._internal.arrays import Array
from largeds_native.errors import StoreError
from largeds_native.store.format.psnr import MAX_PSNR, Psnr
from largeds_native.store.format.statistics import Sums

if TYPE_CHECKING:
    import pyarrow as pa

NAME = "samples.parquet"
# decoder of a sample, as a number in memory and as a word in the file. PIXELS: the source yielded decoded pixels
CORE, PILLOW, PIXELS, NOT_DECODED = 0, 1, 2, 3
DECODERS = ("core", "Pillow", "source", "none")
# how a row of a JPEG store was kept, as a number in memory and as a word in the file
KEPT = ("verbatim", "transcoded", "shrunk", "encoded")
NOT_MEASURED = -1


def hash_column(name: str) -> str:
    """The column with the hashes of a picture's rows; no field's name has a dot."""
    return f"{name}.hash"


@dataclass
class JpegRows:
    """Of consecutive samples of a JPEG store, one entry each; what it says of failed ones has no meaning.

    kept: an index of KEPT. bytes: of the row. size: (n, 2), height and width as shown. orientation: EXIF's number by
    which the stored pixels are turned for showing. psnr: of the row to the pixels that were encoded, in thousandths of
    a decibel, or NOT_MEASURED. source_bytes: of the image in its source.
    """

    kept: np.ndarray[Any, np.dtype[np.uint8]]
    bytes: np.ndarray[Any, np.dtype[np.int64]]
    size: np.ndarray[Any, np.dtype[np.uint16]]
    orientation: np.ndarray[Any, np.dtype[np.uint8]]
    psnr: np.ndarray[Any, np.dtype[np.int32]]
    source_bytes: np.ndarray[Any, np.dtype[np.int64]]

    def take(self, indices: Array) -> JpegRows:
        return JpegRows(*(getattr(self, column.name)[indices] for column in fields(self)))

    @classmethod
    def joined(cls, parts: list[JpegRows]) -> JpegRows:
        empty = cls(
            np.zeros(0, np.uint8),
            np.zeros(0, np.int64),
            np.zeros((0, 2), np.uint16),
            np.zeros(0, np.uint8),
            np.zeros(0, np.int32),
            np.zeros(0, np.int64),
        )
        return cls(*(np.concatenate([getattr(p, c.name) for p in (empty, *parts)]) for c in fields(cls)))

    def summary(self) -> dict[str, Any]:
        """What the record of a shard keeps of them."""
        counts = np.bincount(self.kept, minlength=len(KEPT)).tolist()
        measured = self.psnr[self.psnr != NOT_MEASURED]
        rows = len(self.bytes)
        return {
            "bytes": int(self.bytes.sum()),
            "turned": bool((self.orientation != 1).any()),
            "source_bytes": int(self.source_bytes.sum()),
            "min_size": tuple(self.size.min(axis=0).tolist()) if rows else (0, 0),
            "max_size": tuple(self.size.max(axis=0).tolist()) if rows else (0, 0),
            "kept": {name: count for name, count in zip(KEPT, counts, strict=True) if count},
            "psnr": Psnr(len(measured), int(measured.sum()), int(measured.min(initial=MAX_PSNR))),
        }


@dataclass
class SampleResults:
    """The results of consecutive samples: arrays with one entry per sample, and the errors of failed samples."""

    width: np.ndarray[Any, np.dtype[np.int32]]
    height: np.ndarray[Any, np.dtype[np.int32]]
    hash: np.ndarray[Any, np.dtype[np.uint64]]
    decoder: np.ndarray[Any, np.dtype[np.uint8]]
    sums: Sums
    errors: dict[int, tuple[str, str]] = field(default_factory=dict)  # index -> (reason, message)
    jpeg: JpegRows | None = None  # of rows that are files
    pictures: dict[str, SampleResults] = field(default_factory=dict)  # by field, with these same errors

    def good(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Indices of the samples that did not fail."""
        mask = np.ones(len(self.width), bool)
        mask[list(self.errors)] = False
        return np.flatnonzero(mask)


class SampleLog:
    """Collects samples.parquet by columns, as a million lines of Python objects would take too much memory."""

    def __init__(self, jpeg: bool = False, pictures: Sequence[str] = ()) -> None:
        self._rows = 0
        self._pictures: dict[str, list[SampleResults]] = {name: [] for name in pictures}
        self._jpeg: list[JpegRows] | None = [] if jpeg else None  # of all samples
        self._numbers: dict[str, list[Array]] = {key: [] for key in ("row", "width", "height", "decoder", "hash")}
        self._texts: dict[str, list[Any]] = {key: [] for key in ("source", "status", "error")}
        self.failed: Counter[str] = Counter()
        self.decoders: Counter[str] = Counter()

    def add(self, names: list[str], results: SampleResults) -> None:
        """Appends consecutive samples; the good ones are the next rows of the shard."""
        import pyarrow as pa

        n, good = len(names), results.good()
        row, hashes = np.full(n, -1, np.int64), np.zeros(n, np.uint64)
        row[good] = np.arange(self._rows, self._rows + len(good))
        hashes[good] = results.hash[good]
        self._rows += len(good)
        self._texts["source"].append(_texts(names))
        if results.errors:
            status: list[str] = ["ok"] * n
            errors: list[str | None] = [None] * n
            for i, (reason, message) in results.errors.items():
                status[i], errors[i] = reason, _text(message)
                self.failed[reason] += 1
            self._texts["status"].append(pa.array(status, pa.string()))
            self._texts["error"].append(pa.array(errors, pa.string()))
        else:
            self._texts["status"].append(pa.repeat("ok", n))
            self._texts["error"].append(pa.nulls(n, pa.string()))
        for code, count in enumerate(np.bincount(results.decoder[good], minlength=len(DECODERS)).tolist()):
            self.decoders[DECODERS[code]] += count
        if self._jpeg is not None:
            assert results.jpeg is not None
            self._jpeg.append(results.jpeg)
        for name, found in results.pictures.items():
            self._pictures[name].append(found)
        self._numbers["row"].append(row)
        self._numbers["width"].append(results.width)
        self._numbers["height"].append(results.height)
        self._numbers["decoder"].append(results.decoder)
        self._numbers["hash"].append(hashes)

    def _column(self, key: str, dtype: Any) -> Array:
        return np.concatenate([np.zeros(0, dtype), *self._numbers[key]]).astype(dtype)

    def _text_column(self, key: str) -> Any:
        import pyarrow as pa

        return pa.chunked_array(self._texts[key], pa.string()).combine_chunks()

    def write(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        row = self._column("row", np.int64)
        decoder = pa.DictionaryArray.from_arrays(pa.array(self._column("decoder", np.int8)), pa.array(DECODERS))
        table = pa.table(
            {
                "source": self._text_column("source"),
                "row": pa.array(row),
                "width": pa.array(self._column("width", np.int32)),
                "height": pa.array(self._column("height", np.int32)),
                "status": self._text_column("status"),
                "error": self._text_column("error"),
                "decoder": decoder.cast(pa.string()),
                "hash": pa.array(self._column("hash", np.uint64), mask=row < 0),
                **self._jpeg_columns(row < 0),
                **{hash_column(name): pa.array(self._all_hashes(name), mask=row < 0) for name in self._pictures},
            }
        )
        with open(path, "xb") as file:
            pq.write_table(table, file)
            file.flush()
            os.fsync(file.fileno())

    def _jpeg_columns(self, failed: Array) -> dict[str, Any]:
        import pyarrow as pa

        if self._jpeg is None:
            return {}
        rows = JpegRows.joined(self._jpeg)
        kept = pa.DictionaryArray.from_arrays(pa.array(rows.kept.astype(np.int8), mask=failed), pa.array(KEPT))
        return {"kept": kept.cast(pa.string()), "bytes": pa.array(np.where(failed, 0, rows.bytes))}

    def jpeg_rows(self) -> JpegRows | None:
        """Of a JPEG store: what is known of the shard's rows, in order."""
        if self._jpeg is None:
            return None
        return JpegRows.joined(self._jpeg).take(np.flatnonzero(self._column("row", np.int64) >= 0))

    def _all_hashes(self, name: str) -> Array:
        return np.concatenate([np.zeros(0, np.uint64), *(found.hash for found in self._pictures[name])])

    def picture_hashes(self, name: str) -> Array:
        """Hashes of a picture's rows of the shard, in order."""
        return self._all_hashes(name)[self._column("row", np.int64) >= 0]

    def picture_bytes(self, name: str) -> Array:
        """Lengths of a picture's rows that are files."""
        lengths = [found.jpeg.bytes for found in self._pictures[name] if found.jpeg is not None]
        return np.concatenate([np.zeros(0, np.int64), *lengths])[self._column("row", np.int64) >= 0]

    def row_hashes(self) -> Array:
        """Hashes of the shard's rows, in order."""
        return self._column("hash", np.uint64)[self._column("row", np.int64) >= 0]


def _texts(names: list[str]) -> Any:
    """A string array; bytes of file names that are not valid text are written as \\udcXX."""
    import pyarrow as pa

    try:
        return pa.array(names, pa.string())
    except UnicodeEncodeError:
        return pa.array([_text(name) for name in names], pa.string())


def _text(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def read_sample_log(
    shard: Path, start: int, columns: Sequence[str] | None = None, data: bytes | None = None
) -> pa.Table:
    """The table of one shard, or these columns and `row`; rows count from `start` on, and are -1 for failed samples.
    data: the bytes of the file, if it is not on this disk."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    path = shard / NAME
    try:
        with pq.ParquetFile(path if data is None else pa.BufferReader(data)) as file:
            table = file.read(None if columns is None else [*columns, "row"])
        row = pc.cast(table["row"], pa.int64())
        row = pc.if_else(pc.less(row, 0), row, pc.add(row, start))
    except (pa.ArrowException, OSError, KeyError) as error:
        raise StoreError(f"{path} can't be read: {str(error)[:200]}") from error
    return table.set_column(table.column_names.index("row"), "row", row)
