"""`largeds verify`"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from largeds_native.cli.guard import FAILURE
from largeds_native.cli.output import emit_json
from largeds_native.cli.stores import CACHE, CACHE_BYTES, open_stores, place
from largeds_native.cli.values import JSON, THREADS


def verify(
    stores: Annotated[
        list[Path], typer.Argument(parser=place, metavar="STORE...", help="The stores to verify, or their URLs.")
    ],
    sources: Annotated[
        bool, typer.Option("--sources", help="Also decode some source images again, and compare the pixels.")
    ] = False,
    sample: Annotated[int, typer.Option(min=1, help="With --sources: number of images, evenly spaced.")] = 1000,
    cache: CACHE = None,
    cache_bytes: CACHE_BYTES = None,
    threads: THREADS = None,
    json: JSON = False,
) -> None:
    """Compare every row with its hash from the pack. The exit code is 1 if something is damaged.

    \b
    Examples:
      largeds verify train.lds
      largeds verify train.lds --sources --sample 200
      largeds verify train.lds --json
      largeds verify photos.lds drawings.lds
      largeds verify s3://bucket/train.lds --cache /nvme/cache
      largeds verify train.lds && python train.py
    """
    from largeds_native.packing import verify_sources
    from largeds_native.store import ConcatStore, as_packed

    with open_stores(stores, cache, cache_bytes) as opened:
        packed = opened if isinstance(opened, ConcatStore) else as_packed(opened)
        rows = packed.verify(threads=threads, progress=not json)
        source_check = verify_sources(opened, sample=sample, threads=threads) if sources else None
    store = ", ".join(map(str, stores))
    ok = rows.ok and (source_check is None or source_check.ok)
    if json:
        content = {"store": store, "ok": ok} | dataclasses.asdict(rows)
        emit_json(content | {"sources": None if source_check is None else dataclasses.asdict(source_check)})
    else:
        print(f"{store}: {rows}" if source_check is None else f"{store}: {rows}; {source_check}")
    if not ok:
        raise typer.Exit(FAILURE)
