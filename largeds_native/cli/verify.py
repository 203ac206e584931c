"""`largeds verify`"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from largeds_native.cli.guard import FAILURE
from largeds_native.cli.output import emit_json
from largeds_native.cli.values import JSON, THREADS


def verify(
    store: Annotated[Path, typer.Argument(help="The store to read through.")],
    sources: Annotated[
        bool, typer.Option("--sources", help="Also decode some of the sources again, and compare the pixels.")
    ] = False,
    sample: Annotated[int, typer.Option(min=1, help="With --sources: so many, spread evenly.")] = 1000,
    threads: THREADS = None,
    json: JSON = False,
) -> None:
    """Read every row and compare it with the hash it was packed with. Exit code 1 when something is damaged.

    \b
    Examples:
      largeds verify train.lds
      largeds verify train.lds --sources --sample 200
      largeds verify train.lds --json
      largeds verify train.lds && python train.py
    """
    import largeds_native as lds

    with lds.open(store) as opened:
        result = opened.verify(sources=sources, sample=sample, threads=threads)
    if json:
        emit_json({"store": str(store), "ok": result.ok} | dataclasses.asdict(result))
    else:
        print(f"{store}: {result}")
    if not result.ok:
        raise typer.Exit(FAILURE)
