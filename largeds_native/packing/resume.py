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
        found = manifest.read_manifest(out)
        if resume and found.options.get("plan") == fingerprint:
            return True
        raise PackError(f"{out} holds a finished store of another job: remove it or choose another output")
    job = _read_job(out)
    if job is not None and job.get("plan") != fingerprint:
        if resume:
            raise PackError(
                f"{out} holds an unfinished pack of another job ({_difference(job, plan)}): "
                "pass resume=False to remove it, or choose another output"
            )
        job = None
    if job is None or not resume:
        for name in os.listdir(out):
            if name != lock.NAME and _OURS.fullmatch(name):
                path = out / name
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    tree = {"plan": fingerprint, "source": plan.source.fingerprint(), **plan.manifest_parts()}
    atomic_write_bytes(out / PLAN_NAME, (json.dumps(tree, indent=1) + "\n").encode())
    return False


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
        start, _ = plan.samples(number)
        time_ns = os.stat(out / name / shard_record.NAME).st_mtime_ns
        changed = plan.source.changed_since(start, start + record.samples, time_ns)
        if changed:
            raise PackError(
                f"{len(changed):,} images changed since they were packed into {out / name} "
                f"(the first is {changed[0]!r}): pass resume=False to start again"
            )
        found[number] = record
    return found


def clean(out: Path) -> None:
    """Removes files that a finished store does not need."""
    (out / PLAN_NAME).unlink(missing_ok=True)
    for name in os.listdir(out):
        if name.startswith(".") and name.endswith(".tmp") and name[1:6] == "shard":
            shutil.rmtree(out / name, ignore_errors=True)
