"""Makes a store of the shards of a plan: checks that all are there, and writes manifest and report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from largeds_native._internal.terminal import on_terminal
from largeds_native.errors import LargedsError, PackError
from largeds_native.packing.class_names import numbered_classes
from largeds_native.packing.failures import check_failures, check_finished
from largeds_native.packing.pack_plan import Plan
from largeds_native.packing.resume import clean, finished_shards, is_store, publish
from largeds_native.packing.shard_packer import check_record, storage_error
from largeds_native.packing.summary import RunTimes, make_report
from largeds_native.store import PackedStore, open_manifest, open_packed, open_remote
from largeds_native.store.format import manifest
from largeds_native.store.format.sample_log import NAME as LOG
from largeds_native.store.format.shard_record import ShardRecord, shard_name
from largeds_native.store.format.writer import manifest_of
from largeds_native.store.report import NAME as REPORT_NAME
from largeds_native.store.report import Report

NAMED = 20  # of the missing shards


def commit(plan: Plan) -> PackedStore:
    """Makes the store of a plan's shards, whoever packed them, and opens it: checks that all are there and whole, and
    writes the manifest, with exact statistics, and the report. May be called again, and by several processes.

    Raises ArgumentError for a source that one process must read from its start to its end; PackError if shards are
    missing, naming them, or belong to another plan or other versions of the libraries, or if too many samples failed;
    StoreError for a shard with a damaged file.
    """
    plan.numbers()
    with plan.naming():
        return finish_store(plan, None)


def finish_store(plan: Plan, times: RunTimes | None, progress: bool = False) -> PackedStore:
    """`times`: of the run that packed the last shards, for the report."""
    try:
        return _finish(plan, times, progress)
    except LargedsError:
        raise
    except OSError as error:
        raise storage_error(error, plan) from error


def _finish(plan: Plan, times: RunTimes | None, progress: bool) -> PackedStore:
    if plan.mirror is not None:
        plan.mirror.pull()
    if is_store(plan.out):
        if plan.mirror is not None:
            plan.mirror.fetch_logs([path.name for path in plan.out.glob("shard-*")], _is_needed(plan))
        check_finished(plan.out, plan.settings.max_failures, plan.settings.raise_errors)
        clean(plan.out)
        return _opened(plan)
    records = _records(plan)
    if plan.mirror is not None:
        plan.mirror.fetch_logs([record.name for record in records.values()], _is_needed(plan))
    report = make_report(plan, records, times)
    check_failures(report, plan, plan.settings.max_failures)
    _write(plan, records, report)
    if progress:
        _show(report)
    return _opened(plan)


def _is_needed(plan: Plan) -> Callable[[str], bool]:
    """Whether a file in object storage is needed here: the list of samples of a shard in which some failed, and labels
    where these say how many classes there are."""

    def needed(key: str) -> bool:
        name, _, file = key.partition("/")
        if file != LOG:
            return not plan.source.classes
        record = ShardRecord.read(plan.out / name)
        return record is not None and bool(record.failed)

    return needed


def _opened(plan: Plan) -> PackedStore:
    if plan.mirror is None:
        return open_packed(plan.out)
    plan.mirror.finish()
    return open_remote(plan.mirror.url)


def _records(plan: Plan) -> dict[int, ShardRecord]:
    """Of all shards. Raises PackError if one is missing, or not of this plan."""
    there = set(finished_shards(plan.out))
    number = (max(there, default=-1) + 1) if plan.shards is None else plan.shards
    records, missing = {}, []
    for i in range(number):
        record = ShardRecord.read(plan.out / shard_name(i)) if i in there else None
        if record is None:
            missing.append(i)
        else:
            check_record(plan, record)
            records[i] = record
    if missing:
        names = ", ".join(map(str, missing[:NAMED])) + (", ..." if len(missing) > NAMED else "")
        raise PackError(
            f"{len(missing):,} of the {number:,} shards are not packed yet in {plan.where}: {names}. Pack them, each "
            "by pack_shard(plan, number) or the same --part again, or all of them by the same pack without a part; "
            "then finish again"
        )
    return records


def _write(plan: Plan, records: Mapping[int, ShardRecord], report: Report) -> None:
    try:
        _write_files(plan, records, report)
    except FileNotFoundError:
        if not is_store(plan.out):
            raise
    clean(plan.out)  # also where another process finished the store, and removed what we were writing


def _write_files(plan: Plan, records: Mapping[int, ShardRecord], report: Report) -> None:
    in_order = [records[number] for number in sorted(records)]
    metadata = plan.metadata(plan.fingerprint)
    classes = numbered_classes(plan.out, in_order, metadata)
    written = manifest_of(in_order, replace(metadata, classes=classes))
    if plan.mirror is None:
        open_manifest(plan.out, written).close()  # raises if a file is missing or cut off, as after a copy
    else:
        plan.mirror.check_complete(written)
    for name, data in ((REPORT_NAME, report.to_bytes()), (manifest.NAME, written.to_bytes())):
        publish(plan.out / name, data)
        if plan.mirror is not None:
            plan.mirror.send(name)


def _show(report: Report) -> None:
    if on_terminal():
        from rich.console import Console

        Console(stderr=True).print(report)
