"""What `largeds pack` prints, and a part of a pack."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import typer

from largeds_native.cli.output import console, emit_json

if TYPE_CHECKING:
    from largeds_native.store import PackedStore


def show_store(store: PackedStore, out: str, shown: bool, *, json: bool, quiet: bool) -> None:
    """The report and the store; `shown`: pack itself has shown the report."""
    report = store.report
    if json:
        emit_json({"store": str(store.path)} | (dataclasses.asdict(report) if report else {}))
    elif not quiet:
        if report and not shown:
            print(report)
        console().print(repr(store), markup=False, soft_wrap=True)
        if report and report.failed:
            failed = f"{report.total - report.packed:,} of {report.total:,} images failed and were left out"
            console().print(f"{failed}: see largeds info {out} --failures", markup=False, soft_wrap=True)


def pack_part(
    source: Any, out: str, arguments: dict[str, Any], part: tuple[int, int], shown: bool, *, json: bool, quiet: bool
) -> None:
    """Packs one part, and says how many shards are there."""
    from largeds_native.packing import plan
    from largeds_native.packing.local_run import pack_here
    from largeds_native.packing.resume import finished_shards, is_store

    if not arguments["resume"]:
        raise typer.BadParameter("--no-resume with --part would remove the shards of the other parts: leave it out")
    planned = plan(source, out, **arguments)
    numbers = planned.numbers(*part)
    times = None if is_store(planned.out) else pack_here(planned, part, shown)
    ready = len(finished_shards(planned.out))
    if json:
        emit_json(
            {
                "part": part[0],
                "parts": part[1],
                "shards": len(numbers),
                "packed": 0 if times is None else len(times.packed),
                "ready": ready,
                "of": planned.shards,
            }
        )
    elif not quiet:
        words = f"part {part[0]} of {part[1]} is packed: {len(numbers):,} shards"
        rest = "largeds pack ... --finish makes the store" if ready == planned.shards else "the other parts are missing"
        print(f"{words}; {ready:,} of {planned.shards:,} are ready: {rest}")


def part_from(text: str) -> tuple[int, int]:
    """'3/16'."""
    number, slash, parts = text.partition("/")
    if not slash or not number.isdecimal() or not parts.isdecimal() or not 1 <= int(number) <= int(parts):
        raise typer.BadParameter(f"--part: expected one of N, from 1/N to N/N, as 3/16, found {text!r}")
    return int(number), int(parts)
