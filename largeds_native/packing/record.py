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

from largeds_native.packing.engine import DECODERS, Rows
from largeds_native.packing.statistics import Sums
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
    """Collects the lines of samples.parquet, as columns: a million lines of Python objects would take too much."""

    def __init__(self) -> None:
        self._rows = 0
        self._numbers: dict[str, list[Array]] = {key: [] for key in ("row", "width", "height", "decoder", "hash")}
        self._texts: dict[str, list[Any]] = {key: [] for key in ("source", "status", "error")}
        self.failed: Counter[str] = Counter()
        self.decoders: Counter[str] = Counter()

    def add(self, names: list[str], result: Rows, good: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        """One batch, whose samples `good` lie in the shard's next rows."""
        import pyarrow as pa

        n = len(names)
        row, hashes = np.full(n, -1, np.int64), np.zeros(n, np.uint64)
        row[good] = np.arange(self._rows, self._rows + len(good))
        hashes[good] = result.hash[good]
        self._rows += len(good)
        self._texts["source"].append(_texts(names))
        if result.errors:
            status: list[str] = ["ok"] * n
            errors: list[str | None] = [None] * n
            for i, (reason, message) in result.errors.items():
                status[i], errors[i] = reason, _text(message)
                self.failed[reason] += 1
            self._texts["status"].append(pa.array(status, pa.string()))
            self._texts["error"].append(pa.array(errors, pa.string()))
        else:
            self._texts["status"].append(pa.repeat("ok", n))
            self._texts["error"].append(pa.nulls(n, pa.string()))
        for code, count in enumerate(np.bincount(result.decoder[good], minlength=len(DECODERS)).tolist()):
            self.decoders[DECODERS[code]] += count
        self._numbers["row"].append(row)
        self._numbers["width"].append(result.width)
        self._numbers["height"].append(result.height)
        self._numbers["decoder"].append(result.decoder)
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


def _texts(names: list[str]) -> Any:
    """File names may hold bytes that are no text: those stand as \\udcXX."""
    import pyarrow as pa

    try:
        return pa.array(names, pa.string())
    except UnicodeEncodeError:
        return pa.array([_text(name) for name in names], pa.string())


def _text(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()
