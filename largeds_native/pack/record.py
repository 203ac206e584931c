"""What a shard says about itself: one line a sample in samples.parquet, and its sums in shard.json."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from largeds_native.pack.engine import DECODERS, Rows
from largeds_native.pack.statistics import Sums
from largeds_native.store.npy import Array
from largeds_native.store.verify import shard_digest

RECORD = "shard.json"


@dataclass(frozen=True)
class ShardRecord:
    """Enough to write the manifest without opening the shard again."""

    name: str
    plan: str
    rows: int
    samples: int
    failed: Mapping[str, int]
    decoders: Mapping[str, int]
    sums: Sums
    hash: str

    def to_bytes(self) -> bytes:
        return (json.dumps(asdict(self), indent=1) + "\n").encode()

    @classmethod
    def read(cls, folder: Path) -> ShardRecord | None:
        """None when the folder holds no such record, or a damaged one."""
        try:
            tree = json.loads((folder / RECORD).read_bytes())
            sums = tree.pop("sums")
            return cls(sums=Sums(sums["count"], tuple(sums["total"]), tuple(sums["squares"])), **tree)
        except (OSError, ValueError, TypeError, KeyError):
            return None


class SampleLog:
    """Collects the lines of samples.parquet."""

    def __init__(self) -> None:
        self._rows = 0
        self._sources: list[str] = []
        self._columns: dict[str, list[Array]] = {key: [] for key in ("row", "width", "height", "decoder", "hash")}
        self._status: list[str] = []
        self._errors: list[str | None] = []
        self.failed: Counter[str] = Counter()
        self.decoders: Counter[str] = Counter()

    def add(self, names: list[str], result: Rows, good: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        """One batch, whose samples `good` lie in the shard's next rows."""
        n = len(names)
        row, hashes = np.full(n, -1, np.int64), np.zeros(n, np.uint64)
        row[good] = np.arange(self._rows, self._rows + len(good))
        hashes[good] = result.hash[good]
        self._rows += len(good)
        status: list[str] = ["ok"] * n
        errors: list[str | None] = [None] * n
        for i, (reason, message) in result.errors.items():
            status[i], errors[i] = reason, _text(message)
            self.failed[reason] += 1
        for code, count in enumerate(np.bincount(result.decoder[good], minlength=len(DECODERS)).tolist()):
            self.decoders[DECODERS[code]] += count
        self._sources += [_text(name) for name in names]
        self._status += status
        self._errors += errors
        self._columns["row"].append(row)
        self._columns["width"].append(result.width)
        self._columns["height"].append(result.height)
        self._columns["decoder"].append(result.decoder)
        self._columns["hash"].append(hashes)

    def _column(self, key: str, dtype: Any) -> Array:
        return np.concatenate([np.zeros(0, dtype), *self._columns[key]]).astype(dtype)

    def write(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        row = self._column("row", np.int64)
        decoder = pa.DictionaryArray.from_arrays(pa.array(self._column("decoder", np.int8)), pa.array(DECODERS))
        table = pa.table(
            {
                "source": pa.array(self._sources, pa.string()),
                "row": pa.array(row),
                "width": pa.array(self._column("width", np.int32)),
                "height": pa.array(self._column("height", np.int32)),
                "status": pa.array(self._status, pa.string()),
                "error": pa.array(self._errors, pa.string()),
                "decoder": decoder.cast(pa.string()),
                "hash": pa.array(self._column("hash", np.uint64), mask=row < 0),
            }
        )
        with open(path, "xb") as file:
            pq.write_table(table, file)
            file.flush()
            os.fsync(file.fileno())

    def digest(self, fields: Mapping[str, Array]) -> str:
        """Of the hashes of the rows and of the fields' bytes: what the shard's identity is."""
        kept = self._column("row", np.int64) >= 0
        return shard_digest(self._column("hash", np.uint64)[kept], fields)


def _text(name: str) -> str:
    """File names may hold bytes that are no text: those stand as \\\\udcXX."""
    return name.encode("utf-8", "backslashreplace").decode()
