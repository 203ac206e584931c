"""The certificate: every row has the hash that it was packed with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from largeds_native.errors import StoreError
from largeds_native.store.npy import DATA_OFFSET, Array

if TYPE_CHECKING:
    from largeds_native.store.store import Store

Hashes = np.ndarray[Any, np.dtype[np.uint64]]


@dataclass(frozen=True)
class Verification:
    """damaged: rows whose pixels are not those that were packed; damaged_shards: shards whose fields or hashes are not.

    different: sources that decode to other pixels now, or can't be decoded, of `sources_checked` looked at.
    As a sequence it is all of these: empty, and false, when nothing is damaged.
    """

    rows: int
    damaged: tuple[int, ...] = ()
    damaged_shards: tuple[str, ...] = ()
    sources_checked: int = 0
    different: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return len(self) == 0

    def __len__(self) -> int:
        return len(self.damaged) + len(self.damaged_shards) + len(self.different)

    def __iter__(self) -> Iterator[int | str]:
        yield from self.damaged
        yield from self.damaged_shards
        yield from self.different

    def __str__(self) -> str:
        if self.ok:
            checked = f", {self.sources_checked:,} sources decode to the same pixels" if self.sources_checked else ""
            return f"all {self.rows:,} rows are as they were packed{checked}"
        words = []
        if self.damaged:
            words.append(f"{len(self.damaged):,} of {self.rows:,} rows are damaged: {_first(self.damaged)}")
        if self.damaged_shards:
            words.append(f"fields or hashes are damaged in {_first(self.damaged_shards)}")
        if self.different:
            words.append(
                f"{len(self.different):,} of {self.sources_checked:,} sources differ: {_first(self.different)}"
            )
        return "; ".join(words)


def _first(values: tuple[Any, ...]) -> str:
    return ", ".join(str(value) for value in values[:5]) + (", ..." if len(values) > 5 else "")


def shard_digest(hashes: Hashes, fields: Mapping[str, Array]) -> str:
    """Of the hashes of a shard's rows and its fields' bytes: what its entry in the manifest holds."""
    digest = hashlib.sha256(np.ascontiguousarray(hashes, "<u8").tobytes())
    for name, values in sorted(fields.items()):
        digest.update(name.encode() + b"\0" + np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()[:32]


def verify_rows(store: Store, threads: int) -> Verification:
    """Reads every row of every shard once."""
    from largeds_native import _C

    damaged: list[int] = []
    damaged_shards: list[str] = []
    for number, shard in enumerate(store.shards):
        hashes = row_hashes(store, number)
        if len(hashes) != shard.rows:
            raise StoreError(f"{shard.path}: expected hashes of {shard.rows} rows, found {len(hashes)}")
        fields = {name: store.part(name, number) for name in store.fields}
        if shard.hash and shard_digest(hashes, fields) != shard.hash:
            damaged_shards.append(shard.path.name)
        if shard.rows:
            file = (str(shard.path / "images.npy"), DATA_OFFSET, shard.rows)
            bad = _C.verify_file(file, store.row_bytes * store.variants, hashes, threads)
            damaged += [shard.start + row for row in bad]
    return Verification(len(store), tuple(damaged), tuple(damaged_shards))


def row_hashes(store: Store, shard: int) -> Hashes:
    """Of one shard's rows, in order."""
    table = store.samples_of([shard], ["row", "hash"])
    keep = np.asarray(table["row"].to_numpy()) >= 0
    hashes: Hashes = np.asarray(table["hash"].fill_null(0).to_numpy(), np.uint64)[keep]
    return hashes
