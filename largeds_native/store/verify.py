"""Verification of a store: compares every row with its hash from the pack."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from largeds_native._internal.arrays import Array
from largeds_native.errors import StoreError

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Verification:
    """The result of `PackedStore.verify`. As a sequence, it contains all damaged rows and shards; it is empty, and
    false, if nothing is damaged.

    ok: whether nothing is damaged.
    rows: number of rows that were compared.
    damaged: rows whose pixels differ from those packed.
    damaged_shards: names of shards whose fields or hashes differ.
    """

    rows: int
    damaged: tuple[int, ...] = ()
    damaged_shards: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return len(self) == 0

    def __len__(self) -> int:
        return len(self.damaged) + len(self.damaged_shards)

    def __iter__(self) -> Iterator[int | str]:
        yield from self.damaged
        yield from self.damaged_shards

    def __str__(self) -> str:
        if self.ok:
            return f"all {self.rows:,} rows are as they were packed"
        parts = []
        if self.damaged:
            parts.append(f"{len(self.damaged):,} of {self.rows:,} rows are damaged: {first_few(self.damaged)}")
        if self.damaged_shards:
            parts.append(f"fields or hashes are damaged in {first_few(self.damaged_shards)}")
        return "; ".join(parts)


def first_few(values: tuple[Any, ...]) -> str:
    return ", ".join(str(value) for value in values[:5]) + (", ..." if len(values) > 5 else "")


def row_hashes(log: pa.Table, shard: Path, rows: int, column: str = "hash") -> Array:
    """Hashes of a shard's rows, in order, from its list of samples."""
    kept = np.asarray(log["row"].to_numpy()) >= 0
    hashes = np.asarray(log[column].fill_null(0).to_numpy(), np.uint64)[kept]
    if len(hashes) != rows:
        raise StoreError(f"{shard}: expected hashes of {rows} rows, found {len(hashes)}")
    return hashes
