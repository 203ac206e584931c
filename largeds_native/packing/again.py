"""Decoding sources again, to see that they still give the pixels in the store."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from largeds_native.errors import ArgumentError, StoreError
from largeds_native.packing.engine import Engine
from largeds_native.packing.options import Options
from largeds_native.packing.size import row_size
from largeds_native.sources import IndexedSource, Shuffled, as_source
from largeds_native.store import Store


def different_sources(store: Store, source: Any, sample: int, threads: int) -> tuple[int, list[str]]:
    """(samples looked at, names of those that now decode to other pixels): `sample` of them, spread evenly.

    `source` as `pack` took it; None where the store's report says in which folder it was.
    """
    options = packed_options(store)
    indexed = _source(store, source, options)
    table = store.samples
    if indexed.count != len(table):
        raise StoreError(f"{store.path}: expected a source of {len(table):,} samples, found {indexed.count:,}")
    chosen = np.unique(np.linspace(0, len(table) - 1, min(sample, len(table))).astype(np.int64))
    lines = table.take(chosen).to_pylist()
    engine = Engine(options, row_size(indexed, options), threads)
    found: list[str] = []
    for low in range(0, len(chosen), 256):
        samples = chosen[low : low + 256]
        found += _compare(engine, indexed.take(samples), samples, lines[low : low + 256])
    return len(chosen), found


def _compare(engine: Engine, batch: Any, samples: Any, lines: list[dict[str, Any]]) -> list[str]:
    engine.start(batch.items, samples)
    result = engine.finish(lambda _: None)
    found = []
    for i, line in enumerate(lines):
        status = result.errors[i][0] if i in result.errors else "ok"
        if (
            batch.names[i] != line["source"]
            or status != line["status"]
            or (status == "ok" and int(result.hash[i]) != line["hash"])
        ):
            found.append(line["source"])
    return found


def _source(store: Store, source: Any, options: Options) -> IndexedSource:
    if source is None:
        report = store.report
        if report is None or report.root is None:
            raise ArgumentError(f"{store.path} does not say where its images came from: pass sources=...")
        source = report.root
    found = as_source(source)
    if not isinstance(found, IndexedSource):
        raise ArgumentError(f"sources: expected a source that can be read in any order, found {found.description}")
    return found if options.shuffle is None else Shuffled(found, options.shuffle)


def packed_options(store: Store) -> Options:
    """The options that a store was packed with."""
    from largeds_native.packing import pack

    names = set(inspect.signature(pack).parameters)
    given = {name: value for name, value in store.manifest["options"].items() if name in names}
    try:
        return Options.checked(**given)
    except (KeyError, TypeError, ArgumentError) as error:
        raise StoreError(f"{store.path}: the options in its manifest can't be used: {error}") from None
