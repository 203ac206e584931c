"""The files of a shard by name, and shards that are looked at one by one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from largeds_native.errors import StoreError
from largeds_native.store.format import sample_log, shard_record
from largeds_native.store.format.images_file import ORIENTATIONS, SIZES, bin_name, offsets_name
from largeds_native.store.format.manifest import Manifest, ShardEntry
from largeds_native.store.format.npy import file_size
from largeds_native.store.jpeg import JpegStore
from largeds_native.store.packed import PackedStore

LOG = sample_log.NAME
RECORD = shard_record.NAME
MAX_LOG_BYTES = 4 << 30  # of samples.parquet, whose size the manifest does not tell
MAX_RECORD_BYTES = 16 << 20


def row_files(manifest: Manifest, entry: ShardEntry) -> dict[str, int]:
    """The size in bytes of each file of a shard that holds rows, as the manifest tells it."""
    rows = entry.rows
    found: dict[str, int] = {}
    offsets = file_size(np.dtype("<u8"), (rows + 1,))
    if manifest.codec == "jpeg":
        found |= {bin_name("images"): entry.bytes, offsets_name("images"): offsets}
        found[SIZES] = file_size(np.dtype("<u2"), (rows, 2))
        if entry.turned:
            found[ORIENTATIONS] = file_size(np.dtype("u1"), (rows,))
        for name, size in entry.picture_bytes.items():
            found |= {bin_name(name): size, offsets_name(name): offsets}
    beside_jpeg = manifest.pictures if manifest.codec == "jpeg" else {}
    arrays = [*(["images"] if manifest.codec == "raw" else []), *manifest.fields]
    for name in arrays:
        if name not in beside_jpeg:
            spec = manifest.array_spec(name)
            found[f"{name}.npy"] = file_size(spec.dtype, (rows, *spec.shape))
    return found


def shard_bytes(manifest: Manifest, entry: ShardEntry) -> int:
    """Of the files with rows."""
    return sum(row_files(manifest, entry).values())


def check_shard(folder: Path, manifest: Manifest, entry: ShardEntry) -> None:
    """Compares the files of one shard in a folder with the manifest, and all its rows with their hashes. Raises
    StoreError if it is not the shard that the manifest means, is damaged, or incomplete."""
    found = _alone(folder, manifest, entry).verify(threads=1, progress=False)
    if not found.ok:
        raise StoreError(f"{folder / entry.name}: {found}")


def check_rows(folder: Path, manifest: Manifest, entry: ShardEntry) -> None:
    """The same for a shard without samples.parquet; which rows are damaged is not told then. A shard must have that
    file if the manifest has no hash of it."""
    if not entry.hash:
        check_shard(folder, manifest, entry)
    elif entry.rows and not _alone(folder, manifest, entry).is_whole(0):
        raise StoreError(f"{folder / entry.name}: its rows are damaged, or another shard's")


def _alone(folder: Path, manifest: Manifest, entry: ShardEntry) -> PackedStore:
    alone = replace(manifest, rows=entry.rows, shards=(entry,))
    return (OneJpegShard if manifest.codec == "jpeg" else PackedStore)(folder, alone)


class OneJpegShard(JpegStore):
    """The manifest's range of sizes is of all shards, so it says nothing about one."""

    def _damaged_manifest(self) -> bool:
        return False
