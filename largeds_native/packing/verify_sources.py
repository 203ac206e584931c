"""Decodes images of the source again, and compares them with the rows of the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from largeds_native._internal.machine import usable_threads
from largeds_native.errors import ArgumentError, StoreError
from largeds_native.packing.options import PackOptions
from largeds_native.packing.shard import Engines
from largeds_native.packing.size import row_size
from largeds_native.packing.store_source import source_of
from largeds_native.sources import IndexedSource, ShuffledSource, SourceBatch
from largeds_native.sources.fetch import fetch_batch
from largeds_native.store import ConcatStore, PackedStore, Store, as_packed
from largeds_native.store.format.sample_log import hash_column
from largeds_native.store.verify import first_few

STEP = 256  # samples that are decoded together


@dataclass(frozen=True)
class SourceVerification:
    """The result of `verify_sources`.

    checked: number of compared source images.
    different: names of those whose pixels differ from the store's, or that can't be decoded any more.
    """

    checked: int
    different: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.different

    def __str__(self) -> str:
        if self.ok:
            return f"{self.checked:,} sources decode to the same pixels"
        return f"{len(self.different):,} of {self.checked:,} sources differ: {first_few(self.different)}"


def verify_sources(
    store: Store, source: Any = None, *, sample: int = 1000, threads: int | None = None
) -> SourceVerification:
    """Decodes `sample` of the images that a store was packed from, evenly spaced, and compares them with the store.

    source: as for `pack`; default: the folder in the store's report. Joined stores are compared each with its own.
    threads: by default all that the process may use.

    Raises ArgumentError if the report has no folder, StoreError if the source has another number of samples.
    """
    if isinstance(store, ConcatStore):
        return _verify_each(store, source, sample, threads)
    packed = as_packed(store)
    options = _options_of(packed)
    indexed = _indexed(packed, source, options)
    table = packed.samples
    if indexed.count != len(table):
        raise StoreError(f"{store.path}: expected a source of {len(table):,} samples, found {indexed.count:,}")
    indices = np.unique(np.linspace(0, len(table) - 1, min(sample, len(table))).astype(np.int64))
    expected = table.take(indices).to_pylist()
    size = (0, 0) if options.codec == "jpeg" else row_size(indexed, options)
    if sorted(indexed.pictures) != sorted(store.metadata.pictures):
        raise StoreError(
            f"{store.path}: expected a source with the masks and pictures {sorted(store.metadata.pictures)}, found "
            f"{sorted(indexed.pictures)}: pass the source with them"
        )
    engines = Engines.of(options, store.metadata.pictures, size, threads or usable_threads())
    different: list[str] = []
    for low in range(0, len(indices), STEP):
        part = indices[low : low + STEP]
        different += _differences(engines, fetch_batch(indexed.take(part)), part, expected[low : low + STEP])
    return SourceVerification(len(indices), tuple(different))


def _verify_each(store: ConcatStore, source: Any, sample: int, threads: int | None) -> SourceVerification:
    if source is not None:
        raise ArgumentError("source: joined stores have one each: verify each store with its own source")
    each = max(1, sample // len(store.parts))
    found = [verify_sources(part, sample=each, threads=threads) for part in store.parts]
    different = tuple(
        f"{part.path.name}: {name}" for part, one in zip(store.parts, found, strict=True) for name in one.different
    )
    return SourceVerification(sum(one.checked for one in found), different)


def _differences(engines: Engines, batch: SourceBatch, indices: Any, expected: list[dict[str, Any]]) -> list[str]:
    """Names of the samples that differ from their entry in the store's list of samples."""
    engines.image.start(batch.items, indices)
    results = engines.image.finish(lambda _: None)
    engines.pack_pictures(batch, indices, results)
    different = []
    for i, was in enumerate(expected):
        status = results.errors[i][0] if i in results.errors else "ok"
        same = batch.names[i] == was["source"] and status == was["status"]
        hashes = {"hash": results.hash, **{hash_column(name): found.hash for name, found in results.pictures.items()}}
        if not same or (status == "ok" and any(int(values[i]) != was[name] for name, values in hashes.items())):
            different.append(was["source"])
    return different


def _indexed(store: PackedStore, source: Any, options: PackOptions) -> IndexedSource:
    if source is None:
        report = store.report
        if report is None or report.root is None:
            raise ArgumentError(f"{store.path} does not record where its images came from: pass the source")
        source = report.root
    found = source_of(source, options.transform.exif_orientation)
    if not isinstance(found, IndexedSource):
        raise ArgumentError(f"source: expected one that can be read in any order, found {found.description}")
    return found if options.shuffle is None else ShuffledSource(found, options.shuffle)


def _options_of(store: PackedStore) -> PackOptions:
    """The options with which a store was packed."""
    given = {name: value for name, value in store.metadata.options.items() if name != "plan"}
    try:
        return PackOptions.checked(**given)
    except (KeyError, TypeError, ArgumentError) as error:
        raise StoreError(f"{store.path}: the options in its manifest can't be used: {error}") from None
