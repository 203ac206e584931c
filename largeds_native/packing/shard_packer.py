"""Packs shards of a plan, one after another."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from functools import partial

from largeds_native._internal.machine import usable_threads
from largeds_native.errors import ArgumentError, PackError, StorageError
from largeds_native.packing.claims import Claim, Claims
from largeds_native.packing.engine import Clock
from largeds_native.packing.failures import check_packed_before
from largeds_native.packing.finisher import Finisher
from largeds_native.packing.pack_plan import Plan
from largeds_native.packing.planning import library_versions
from largeds_native.packing.shard import Engines, OnShardProgress, ShardFiller
from largeds_native.store.format.shard_record import ShardRecord, shard_name
from largeds_native.store.format.writer import ShardWriter


class ShardPacker:
    """Packs shards of a plan with the same threads, each under a claim. A shard is synced to disk while the next one is
    packed; `finish` waits for the last one."""

    def __init__(self, plan: Plan, claims: Claims) -> None:
        check_libraries(plan)
        self._plan, self._claims = plan, claims
        self._metadata = plan.metadata(plan.fingerprint)
        self._finisher = Finisher()
        self.threads = plan.settings.threads or usable_threads()
        self._engines = Engines.of(plan.options, plan.pictures, plan.decoded, self.threads, plan.out)

    @property
    def records(self) -> Mapping[int, ShardRecord]:
        """Of the shards that are finished, by number."""
        return self._finisher.records

    @property
    def clock(self) -> Clock:
        return self._engines.image.clock

    @property
    def waited(self) -> float:
        """Seconds for which decoding waited for the disk."""
        return self._finisher.waited

    def pack(self, number: int, claim: Claim, on_progress: OnShardProgress) -> tuple[int, int]:
        """Packs a shard in the folder of its claim. Returns the numbers of samples, and of those that failed; it has no
        samples if the source ended before it.

        Raises what `on_progress` raises, and the error of the shard that was synced meanwhile.
        """

        def alive(done: int, failed: int) -> None:
            self._claims.touch()
            on_progress(done, failed)

        writer = ShardWriter(self._plan.out, number, self._metadata, self._plan.fingerprint, claim.path)
        filler = ShardFiller(writer, self._plan, number)
        filler.fill(self._engines, self._plan.settings.raise_errors, alive)
        if filler.samples == 0:
            writer.discard()
            return 0, 0
        try:
            publish = None if self._plan.mirror is None else self._plan.mirror.send_shard
            self._finisher.add(number, partial(writer.finish, publish))
        except BaseException:  # the previous shard could not be finished
            writer.close()
            raise
        return filler.samples, filler.failed

    def finish(self) -> None:
        """Waits until the last shard is finished, or raises its error."""
        self._finisher.wait()

    def end(self) -> None:
        """Gives up the claims. A shard that is being synced is finished before, in a thread of its own if need be."""
        self._finisher.detach(self._claims.release, timeout=0.5)


def pack_shard(plan: Plan, number: int) -> ShardRecord:
    """Packs shard `number` of a plan, 0 to `plan.shards` - 1, in this process, and returns its record: its numbers of
    rows and of samples, and of failures by reason. It may be called in any process of any machine that reaches the
    source and `plan.out`, for several shards at once, and again: a shard that is there stays as it is. A process that
    is killed leaves a temporary folder, which the next pack or `commit` removes.

    Raises ArgumentError for a number out of range; PackError if this machine's libraries are of other versions than
    those of the plan, or an image has another shape; StorageError for a full disk; with on_error="raise", DecodeError.
    """
    with plan.naming():
        return pack_timed(plan, number)[0]


def pack_timed(plan: Plan, number: int) -> tuple[ShardRecord, Clock, float]:
    """As `pack_shard`, with where the time went, and the seconds for which decoding waited for the disk."""
    if record := existing(plan, number):
        return record, Clock(), 0.0
    claims = Claims(plan.out)
    packer = ShardPacker(plan, claims)
    try:
        packer.pack(number, claims.take(number), lambda done, failed: None)
        packer.finish()
    except OSError as error:
        record = existing(plan, number)  # another process may have finished it, and removed our folder
        if record is None:
            raise storage_error(error, plan) from error
    finally:
        packer.end()
    return packer.records.get(number) or existing(plan, number), packer.clock, packer.waited  # type: ignore[return-value]


def existing(plan: Plan, number: int) -> ShardRecord | None:
    """The record of a shard that is there. Raises PackError if it is not of this plan; with on_error="raise",
    DecodeError if a sample of it failed."""
    if isinstance(number, bool) or not isinstance(number, int) or number < 0 or number >= (plan.shards or 1 << 30):
        raise ArgumentError(f"number: expected a shard from 0 to {(plan.shards or 1 << 30) - 1}, found {number!r}")
    record = ShardRecord.read(plan.out / shard_name(number))
    if record is None and plan.mirror is not None:
        plan.mirror.find(shard_name(number))
        record = ShardRecord.read(plan.out / shard_name(number))
    if record is not None:
        if plan.mirror is not None and plan.settings.raise_errors and record.failed:
            plan.mirror.fetch_log(record.name)
        check_record(plan, record)
        check_packed_before(plan.out, [record], plan.settings.raise_errors)
    return record


def check_record(plan: Plan, record: ShardRecord) -> None:
    """Raises PackError unless the shard is one of this plan."""
    if record.plan == plan.fingerprint:
        return
    where = f"{plan.where}/{record.name}"
    if record.libraries and (differ := _different(record.libraries, plan.libraries)):
        raise PackError(
            f"{where} was packed with other libraries than this plan's: {differ}. Their pixels may differ: use the "
            "same versions on every machine, and pack this shard again"
        )
    raise PackError(f"{where} is the shard of another plan: remove it, or choose another output")


def check_libraries(plan: Plan) -> None:
    """Raises PackError if those of this process are not those of the plan."""
    if differ := _different(library_versions(), plan.libraries):
        raise PackError(
            f"this machine has other libraries than the one that planned the pack: {differ}. Their pixels may differ: "
            "use the same versions on every machine"
        )


def _different(found: Mapping[str, str], planned: Mapping[str, str]) -> str:
    names = [name for name in sorted({*found, *planned}) if found.get(name) != planned.get(name)]
    return ", ".join(f"{name} {found.get(name)} where the plan has {planned.get(name)}" for name in names)


def storage_error(error: OSError, plan: Plan) -> OSError:
    """As a StorageError that says what to do."""
    if isinstance(error, StorageError):
        return error
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(error.errno, f"the disk is full: make room for {plan.out} and pack again")
    return StorageError(error.errno, f"{error.filename or plan.out}: {error.strerror or error}")
