"""The table of samples: what became of each image of the source, shard by shard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from largeds_native.errors import StoreError

if TYPE_CHECKING:
    import pyarrow as pa

SAMPLES = "samples.parquet"


@dataclass(frozen=True)
class Shard:
    """One folder of a store: images [start, start + rows) of it."""

    path: Path
    rows: int
    start: int
    hash: str = ""


def read_samples(store: Path, shards: Sequence[Shard], columns: Sequence[str] | None = None) -> pa.Table:
    """The shards' tables as one, or these columns of them and `row`, which counts in the whole store; -1: failed."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    tables = []
    for shard in shards:
        path = shard.path / SAMPLES
        try:
            with pq.ParquetFile(path) as file:
                table = file.read(columns)
            row = pc.cast(table["row"], pa.int64())
            row = pc.if_else(pc.less(row, 0), row, pc.add(row, shard.start))
        except (pa.ArrowException, OSError, KeyError) as error:
            raise StoreError(f"{path} can't be read: {str(error)[:200]}") from error
        tables.append(table.set_column(table.column_names.index("row"), "row", row))
    if not tables:
        raise StoreError(f"{store} has no shards")
    return pa.concat_tables(tables)
