"""Makes the report of a pack from the records of its shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from largeds_native.packing.engine import Clock
from largeds_native.packing.pack_plan import Plan
from largeds_native.store.format import sample_log
from largeds_native.store.format.psnr import Psnr
from largeds_native.store.format.shard_record import ShardRecord
from largeds_native.store.report import LISTED, Failure, Report


@dataclass(frozen=True)
class RunTimes:
    """Where the time of a run went that packed the shards `packed`. waited: seconds for which decoding waited for the
    disk."""

    seconds: float
    threads: int
    clock: Clock
    waited: float
    packed: tuple[int, ...]


def make_report(plan: Plan, records: Mapping[int, ShardRecord], times: RunTimes | None) -> Report:
    """`times`: of this run; None where other processes have packed all, and nobody knows theirs."""
    failed: Counter[str] = Counter()
    decoders: Counter[str] = Counter()
    failures: list[Failure] = []
    for number in sorted(records):
        record = records[number]
        failed.update(record.failed)
        decoders.update(record.decoders)
        if record.failed and len(failures) < LISTED:
            failures += failures_of(plan.out / record.name, LISTED - len(failures))
    return Report(
        source=plan.source.description,
        packed=sum(record.rows for record in records.values()),
        failed=dict(failed.most_common()),
        failures=tuple(failures),
        decoders=dict(decoders.most_common()),
        shards=len(records),
        root=plan.source.root,
        notes=plan.source.notes,
        files=plan.files,
        **({} if times is None else _speeds(plan, records, times)),
        **_jpeg_entries(records.values()),
    )


def _speeds(plan: Plan, records: Mapping[int, ShardRecord], times: RunTimes) -> dict[str, Any]:
    seconds, new = max(times.seconds, 1e-9), [records[number] for number in times.packed]
    return {
        "resumed_shards": len(records) - len(new),
        "seconds": seconds,
        "images_per_second": sum(record.rows for record in new) / seconds,
        "source_mb_per_second": times.clock.bytes_read / seconds / 1e6,
        "written_mb_per_second": sum(_image_bytes(record, plan) for record in new) / seconds / 1e6,
        "threads": times.threads,
        "limit": limit_of(seconds, times.threads, times.clock, times.waited),
    }


def _image_bytes(record: ShardRecord, plan: Plan) -> int:
    return record.rows * plan.sample_bytes if record.kept is None else record.bytes


def _jpeg_entries(records: Iterable[ShardRecord]) -> dict[str, Any]:
    """What the report says of JPEG rows only."""
    kept: Counter[str] = Counter()
    psnr, source_bytes, row_bytes = Psnr(), 0, 0
    for record in records:
        kept.update(record.kept or {})
        psnr += record.psnr
        source_bytes += record.source_bytes
        row_bytes += record.bytes
    return {
        "kept": {name: kept[name] for name in sample_log.KEPT if kept[name]},
        "source_bytes": source_bytes,
        "row_bytes": row_bytes,
        "psnr_measured": psnr.measured,
        "psnr_mean": psnr.mean_db if psnr.measured else None,
        "psnr_smallest": psnr.smallest_db if psnr.measured else None,
    }


def limit_of(seconds: float, threads: int, clock: Clock, waited: float) -> str:
    """What most of the threads' time was spent on. Waiting for the source or the disk write stalls all threads."""
    available = seconds * threads
    shares = {"source read": clock.read, "decode": clock.decode, "disk write": clock.write + waited * threads}
    shares["source"] = max(0.0, available - sum(shares.values()))
    return max(shares, key=lambda name: shares[name])


def failures_of(shard: Path, limit: int) -> list[Failure]:
    """The first failures of one shard."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(shard / sample_log.NAME, columns=["source", "status", "error"], partitioning=None)
    table = table.filter(pc.not_equal(table["status"], "ok")).slice(0, limit)
    return [Failure(row["source"], row["status"], row["error"] or "") for row in table.to_pylist()]
