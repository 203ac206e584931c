"""Finds out what an output folder holds: nothing, the finished or interrupted job, or something else."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from largeds_native.errors import PackError
from largeds_native.packing import lock
from largeds_native.packing.plan import Plan
from largeds_native.store.format import manifest, shard_record
from largeds_native.store.format.files import atomic_write_bytes
from largeds_native.store.format.manifest import PLAN_NAME
from largeds_native.store.format.shard_record import ShardRecord, shard_name
from largeds_native.store.report import Report

KEY_HINT = "a store that is packed with key='...', a name of yours for its data, is known again by that key"

_OURS = re.compile(rf"\.?shard-\d{{5,9}}(\.tmp)?|\.?{re.escape(PLAN_NAME)}(\.tmp)?|{re.escape(lock.NAME)}")


def check_output(out: Path) -> None:
    """Raises PackError if `out` is not empty and not from a pack."""
    if not out.exists():
        return
    if not out.is_dir():
        raise PackError(f"{out} exists and is not a folder: choose another output")
    if (out / manifest.NAME).exists() or (out / PLAN_NAME).exists():
        return
    foreign = sorted(name for name in os.listdir(out) if not _OURS.fullmatch(name))
    if foreign:
        raise PackError(f"{out} exists and is not a store (it holds {foreign[0]!r}): choose another output")


def begin(out: Path, plan: Plan, fingerprint: str, resume: bool) -> bool:
    """Prepares `out` for the job; returns True if the same job is already finished there.

    Raises PackError if `out` holds the result of another job, which is only removed with resume=False.
    """
    if (out / manifest.NAME).exists():
        _check_finished(out, plan, fingerprint, resume)
        return True
    job = _read_job(out)
    if job is not None and resume:
        _check_unfinished(out, job, plan, fingerprint)
    if job is None or not resume or plan.identity is None:
        for name in os.listdir(out):
            if name != lock.NAME and _OURS.fullmatch(name):
                path = out / name
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    tree = {"plan": fingerprint, "source": plan.identity, "key": plan.key, "from": plan.origin, **plan.manifest_parts()}
    atomic_write_bytes(out / PLAN_NAME, (json.dumps(tree, indent=1) + "\n").encode())
    return False


def _check_finished(out: Path, plan: Plan, fingerprint: str, resume: bool) -> None:
    """Raises PackError unless the finished store in `out` is what the job would make."""
    found = manifest.read_manifest(out)
    ways = f"open it with largeds_native.open({str(out)!r}), or remove it, or choose another folder"
    if not resume:
        raise PackError(f"{out} holds a finished store, which resume=False does not throw away: {ways}")
    if plan.identity is None:
        raise PackError(
            f"{out} holds a finished store, and nothing tells whether it was packed from this "
            f"{plan.source.description}: {ways}; {KEY_HINT}"
        )
    if found.options.get("plan") != fingerprint:
        raise PackError(f"{out} holds a finished store of another job: {ways}")
    if plan.key is not None:
        return
    report = Report.read(out)
    if report is not None and [report.source, report.root] != plan.origin:
        raise PackError(
            f"{out} holds a finished store of the {report.source}, whose list of samples is that of the "
            f"{plan.source.description}, and nothing tells whether their images are the same: {ways}; {KEY_HINT}"
        )
    for number, entry in enumerate(found.shards):
        record = ShardRecord.read(out / entry.name)
        changed = [] if record is None else _changed(out / entry.name, number, record, plan)
        if changed:
            raise PackError(
                f"{out} holds a finished store, and {len(changed):,} of its images changed since they were packed "
                f"(the first is {changed[0]!r}): {ways}"
            )


def _check_unfinished(out: Path, job: dict[str, Any], plan: Plan, fingerprint: str) -> None:
    """Raises PackError unless the job can go on from the shards in `out`."""
    ways = "pass resume=False to throw it away, or choose another folder"
    if plan.identity is None:
        if any(re.fullmatch(r"shard-\d{5,9}", name) for name in os.listdir(out)):
            raise PackError(
                f"{out} holds an unfinished pack, and nothing tells whether it is of this {plan.source.description}: "
                f"{ways}; "
                "a pack with key='...', a name of yours for its data, goes on where one with the same key was stopped"
            )
        return
    if job.get("plan") != fingerprint:
        raise PackError(f"{out} holds an unfinished pack of another job ({_difference(job, plan)}): {ways}")
    begun = job.get("from", plan.origin)
    if plan.key is None and begun != plan.origin:
        raise PackError(f"{out} holds an unfinished pack of the {begun[0]}, this is the {plan.origin[0]}: {ways}")


def _read_job(out: Path) -> dict[str, Any] | None:
    try:
        tree = json.loads((out / PLAN_NAME).read_bytes())
    except (OSError, ValueError):
        return None
    return tree if isinstance(tree, dict) else None


def _difference(job: dict[str, Any], plan: Plan) -> str:
    """How the interrupted job differs from this one."""
    ours = plan.manifest_parts()
    for part in ("options", "libraries"):
        previous = job.get(part)
        if isinstance(previous, dict):
            for key in sorted({*previous, *ours[part]}):
                if previous.get(key) != _plain(ours[part].get(key)):
                    return f"{key} was {previous.get(key)!r}, is now {ours[part].get(key)!r}"
    if job.get("key") != plan.key:
        return f"key was {job.get('key')!r}, is now {plan.key!r}"
    return "the list of images changed"


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def finished_shards(out: Path, plan: Plan, fingerprint: str) -> dict[int, ShardRecord]:
    """Shards that this job finished before, by number. Raises PackError if a source file has changed since then."""
    found = {}
    for name in sorted(os.listdir(out)):
        if not re.fullmatch(r"shard-\d{5,9}", name):
            continue
        number, record = int(name[6:]), ShardRecord.read(out / name)
        if record is None or record.plan != fingerprint or shard_name(number) != name:
            shutil.rmtree(out / name)
            continue
        changed = _changed(out / name, number, record, plan)
        if changed:
            raise PackError(
                f"{len(changed):,} images changed since they were packed into {out / name} "
                f"(the first is {changed[0]!r}): pass resume=False to start again"
            )
        found[number] = record
    return found


def _changed(shard: Path, number: int, record: ShardRecord, plan: Plan) -> list[str]:
    """Samples of a finished shard whose files changed since it was packed."""
    start, _ = plan.samples(number)
    time_ns = os.stat(shard / shard_record.NAME).st_mtime_ns
    return plan.source.changed_since(start, start + record.samples, time_ns)


def clean(out: Path) -> None:
    """Removes files that a finished store does not need."""
    (out / PLAN_NAME).unlink(missing_ok=True)
    for name in os.listdir(out):
        if name.startswith(".") and name.endswith(".tmp") and name[1:6] == "shard":
            shutil.rmtree(out / name, ignore_errors=True)
