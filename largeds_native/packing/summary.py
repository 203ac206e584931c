"""Makes the report of a pack from the records of its shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from largeds_native.packing.engine import Clock
from largeds_native.packing.plan import Plan
from largeds_native.store.format import sample_log
from largeds_native.store.format.shard_record import ShardRecord
from largeds_native.store.report import LISTED, Failure, Report


def make_report(
    plan: Plan,
    folder: Path,
    records: Mapping[int, ShardRecord],
    resumed: int,
    seconds: float,
    threads: int,
    clock: Clock,
    waited: float,
    new_rows: int,
) -> Report:
    """`resumed` shards were finished before this run; this run packed `new_rows` rows in `seconds`."""
    failed: Counter[str] = Counter()
    decoders: Counter[str] = Counter()
    failures: list[Failure] = []
    for number in sorted(records):
        record = records[number]
        failed.update(record.failed)
        decoders.update(record.decoders)
        if record.failed and len(failures) < LISTED:
            failures += failures_of(folder / record.name, LISTED - len(failures))
    seconds = max(seconds, 1e-9)
    return Report(
        source=plan.source.description,
        packed=sum(record.rows for record in records.values()),
        failed=dict(failed.most_common()),
        failures=tuple(failures),
        decoders=dict(decoders.most_common()),
        shards=len(records),
        resumed_shards=resumed,
        seconds=seconds,
        images_per_second=new_rows / seconds,
        source_mb_per_second=clock.bytes_read / seconds / 1e6,
        written_mb_per_second=new_rows * plan.sample_bytes / seconds / 1e6,
        threads=threads,
        limit=limit_of(seconds, threads, clock, waited),
        root=plan.source.root,
        notes=plan.source.notes,
        files=plan.files,
    )


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
