"""What the output folder of a pack holds: nothing, the finished or interrupted job, or something else."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import Any

from largeds_native._internal.urls import is_url
from largeds_native.errors import ArgumentError, PackError
from largeds_native.packing.claims import FOLDER, Claims
from largeds_native.packing.pack_plan import Plan
from largeds_native.sources import Source
from largeds_native.store.format import manifest, sample_log, shard_record
from largeds_native.store.format.files import atomic_write_bytes
from largeds_native.store.format.manifest import PLAN_NAME
from largeds_native.store.format.shard_record import ShardRecord, shard_name
from largeds_native.store.report import Report

KEY_HINT = "a store that is packed with key='...', a name of yours for its data, is known again by that key"

TRIES = 10  # to write a file beside processes that finish the store
_BEFORE_A_JOB = (FOLDER,)  # what a pack may leave that is stopped before it wrote its job
_SHARD = re.compile(r"shard-\d{5,9}")
_FILE_OF_SHARD = re.compile(
    r"\w[\w-]*\.(npy|bin|offsets\.npy)|images\.(size|orientation)\.npy"
    rf"|{re.escape(sample_log.NAME)}|\.?{re.escape(shard_record.NAME)}(\.tmp)?",
    re.ASCII,
)


def check_url_apart(out: str, source: Source) -> None:
    """As `check_apart`, for a store in object storage."""
    top = f"{source.walked or source.root}/"
    if is_url(top) and (f"{out}/".startswith(top) or top.startswith(f"{out}/")):
        raise ArgumentError(f"out: {out} and {top[:-1]}, from where the images come, lie in each other: choose another")


def check_apart(out: Path, source: Source) -> None:
    """Raises ArgumentError where the store would lie among the images, or the images below the store."""
    target = os.path.realpath(out)
    for place in {source.root, source.walked} - {None}:
        if is_url(place):
            continue
        top = os.path.realpath(str(place))
        inside = place == source.walked and os.path.commonpath([top, target]) == top
        if inside or os.path.commonpath([top, target]) == target:
            where = "is" if top == target else "lies inside of" if inside else "contains"
            raise ArgumentError(f"out: {out} {where} {place}, from where the images come: choose a folder beside it")


def check_output(out: Path) -> None:
    """Raises PackError if `out` is not empty and not from a pack: it has neither a manifest nor the file of a job."""
    if not out.exists():
        return
    if not out.is_dir():
        raise PackError(f"{out} exists and is not a folder: choose another output")
    foreign = sorted(name for name in os.listdir(out) if name not in _BEFORE_A_JOB)
    # in this order, as another process may be packing: the job's file is there until the manifest is
    if foreign and _read_job(out) is None and not is_store(out):
        raise PackError(f"{out} exists and is not a store (it holds {foreign[0]!r}): choose another output")


def begin(plan: Plan, resume: bool) -> bool:
    """Prepares the output folder for the job; returns True if the same job is already finished there.

    Raises PackError if it holds the result of another job, which is only removed with resume=False.
    """
    out = plan.out
    if is_store(out):
        _check_finished(out, plan, resume)
        return True
    claims, job = Claims(out), _read_job(out)
    shards = [] if job is None else _shards_of(out)
    keeps = resume and plan.identity is not None
    if not keeps:
        _check_alone(plan, claims)
    if job is not None and resume:
        _check_unfinished(out, job, plan)
    claims.remove_abandoned()
    for shard in shards:
        if not (keeps and _is_of(plan, shard)):
            shutil.rmtree(shard, ignore_errors=True)
    if plan.mirror is not None and not keeps:
        plan.mirror.remove_shards()
    if job is None or not keeps:
        _write_job(plan, new=job is None)
        if plan.mirror is not None:
            plan.mirror.send(PLAN_NAME)
    return False


def _check_alone(plan: Plan, claims: Claims) -> None:
    """Raises PackError if another process is packing into the folder, whose shards can't be used."""
    if others := claims.of_others():
        raise PackError(
            f"another process ({others[0]}) is packing into {plan.out}, and "
            + (
                "resume=False would throw its shards away: stop it first"
                if plan.identity is not None
                else f"nothing tells whether it packs this {plan.source.description}: wait for it, or choose another "
                "folder; with key='...', a name of yours for the data, both share the work"
            )
        )


def _write_job(plan: Plan, new: bool) -> None:
    """Writes what is packed here. Raises PackError where another process has just begun another job."""
    parts = {"plan": plan.fingerprint, "source": plan.identity, "key": plan.key, "from": plan.origin}
    tree = {**parts, "files": plan.files, **plan.manifest_parts()}
    data, path = (json.dumps(tree, indent=1) + "\n").encode(), plan.out / PLAN_NAME
    if not new:
        publish(path, data)
        return
    temporary = plan.out / FOLDER / f"{path.name}.{secrets.token_hex(4)}"
    with contextlib.suppress(FileExistsError):
        temporary.parent.mkdir()
    temporary.write_bytes(data)
    try:
        os.link(temporary, path)  # unlike a rename, it fails where the file exists
    except FileExistsError:
        job = _read_job(plan.out)
        if job is not None:
            _check_unfinished(plan.out, job, plan)
    except OSError:  # a file system without hard links
        publish(path, data)
    finally:
        temporary.unlink(missing_ok=True)


def publish(path: Path, data: bytes) -> None:
    """Writes a file of the output folder, which other processes may be writing too, with the same contents. The first
    one that finishes the store removes the folder of temporary files, and then another one makes it again."""
    for _ in range(TRIES - 1):
        with contextlib.suppress(FileNotFoundError):
            return _publish(path, data)
    return _publish(path, data)


def _publish(path: Path, data: bytes) -> None:
    folder = path.parent / FOLDER
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
    atomic_write_bytes(path, data, folder / f"{path.name}.{secrets.token_hex(4)}")


def _is_of(plan: Plan, shard: Path) -> bool:
    """Whether a folder named as a shard is one of this job, and whole."""
    record = ShardRecord.read(shard)
    return record is not None and record.plan == plan.fingerprint and shard_name(int(shard.name[6:])) == shard.name


def _shards_of(out: Path) -> list[Path]:
    """The folders of an unfinished pack that are named as shards. Raises PackError if one holds anything that no pack
    wrote."""
    shards = [out / name for name in sorted(os.listdir(out)) if _SHARD.fullmatch(name)]
    for shard in shards:
        if shard.is_symlink() or not shard.is_dir():
            raise PackError(f"{shard}: expected the folder of a shard, found something else: choose another output")
        with os.scandir(shard) as entries:
            foreign = [e.name for e in entries if not (e.is_file(follow_symlinks=False) and _is_ours(e.name))]
        if foreign:
            raise PackError(
                f"{shard} holds {min(foreign)!r}, which is no part of a shard: move it elsewhere, or choose another "
                "output"
            )
    return shards


def _is_ours(name: str) -> bool:
    return _FILE_OF_SHARD.fullmatch(name) is not None


def _check_finished(out: Path, plan: Plan, resume: bool) -> None:
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
    if found.options.get("plan") != plan.fingerprint:
        raise PackError(f"{out} holds a finished store of another job: {ways}")
    if plan.key is not None:
        return
    report = Report.read(out)
    if report is not None and [report.source, report.root] != plan.origin:
        raise PackError(
            f"{out} holds a finished store of the {report.source}, whose list of samples is that of the "
            f"{plan.source.description}, and nothing tells whether their images are the same: {ways}; {KEY_HINT}"
        )
    if report is None or report.files != plan.files:
        shards = [(number, out / entry.name) for number, entry in enumerate(found.shards)]
        what = _what_changed(shards, plan, "of its images")
        raise PackError(f"{out} holds a finished store, and {what}: {ways}; {KEY_HINT}")


def _check_unfinished(out: Path, job: dict[str, Any], plan: Plan) -> None:
    """Raises PackError unless the job can go on from the shards in `out`."""
    ways = "pass resume=False to throw it away, or choose another folder"
    shards = [(int(name[6:]), out / name) for name in sorted(os.listdir(out)) if _SHARD.fullmatch(name)]
    if plan.identity is None:
        if shards:
            raise PackError(
                f"{out} holds an unfinished pack, and nothing tells whether it is of this {plan.source.description}: "
                f"{ways}; "
                "a pack with key='...', a name of yours for its data, goes on where one with the same key was stopped"
            )
        return
    if job.get("plan") != plan.fingerprint:
        raise PackError(f"{out} holds an unfinished pack of another job ({_difference(job, plan)}): {ways}")
    begun = job.get("from", plan.origin)
    if plan.key is None and begun != plan.origin:
        raise PackError(f"{out} holds an unfinished pack of the {begun[0]}, this is the {plan.origin[0]}: {ways}")
    if job.get("files") != plan.files:
        what = _what_changed(shards, plan, "images")
        raise PackError(f"{out} holds an unfinished pack, and {what}: {ways}")


def _what_changed(shards: list[tuple[int, Path]], plan: Plan, of: str) -> str:
    """In words, where the files are not those that were packed; `shards` are the finished ones, with their numbers."""
    changed = []
    for number, shard in shards:
        record = ShardRecord.read(shard)
        if record is not None and record.plan == plan.fingerprint:
            start, _ = plan.samples(number)
            time_ns = os.stat(shard / shard_record.NAME).st_mtime_ns
            changed += plan.source.changed_since(start, start + record.samples, time_ns)
    if changed:
        return f"{len(changed):,} {of} changed since they were packed (the first is {changed[0]!r})"
    return (
        f"the files of the {plan.source.description} are not those that were packed: their sizes, times or inodes "
        "differ, as they do of copied or renamed files"
    )


def _read_job(out: Path) -> dict[str, Any] | None:
    try:
        tree = json.loads((out / PLAN_NAME).read_bytes())
    except (OSError, ValueError):
        return None
    return tree if isinstance(tree, dict) and "plan" in tree else None


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
    return "the list of images changed, or their number, fields or classes"


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def is_store(out: Path) -> bool:
    """Whether the pack is finished."""
    return (out / manifest.NAME).exists()


def finished_shards(out: Path) -> list[int]:
    """The numbers of the shards that are there."""
    return sorted(int(name[6:]) for name in os.listdir(out) if _SHARD.fullmatch(name))


def clean(out: Path) -> None:
    """Removes what a finished store does not need: also the shards that other processes pack once more."""
    folder = out / FOLDER
    with contextlib.suppress(OSError):  # as of a file system that can only be read
        (out / PLAN_NAME).unlink(missing_ok=True)
        for name in os.listdir(folder):
            if name.startswith("shard-"):
                shutil.rmtree(folder / name, ignore_errors=True)
            else:
                (folder / name).unlink(missing_ok=True)
        folder.rmdir()
