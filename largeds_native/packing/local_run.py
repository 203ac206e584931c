"""Packs the shards of a plan that are not there yet, in this process."""

from __future__ import annotations

import secrets
import time

from largeds_native.errors import LargedsError
from largeds_native.packing.claims import Claims
from largeds_native.packing.pack_plan import Plan
from largeds_native.packing.progress import PackProgressBar
from largeds_native.packing.resume import is_store
from largeds_native.packing.shard_packer import ShardPacker, existing, storage_error
from largeds_native.packing.summary import RunTimes
from largeds_native.sources import IndexedSource

POLL_SECONDS = 0.2  # how often it looks whether another process has finished a shard


def pack_here(plan: Plan, part: tuple[int, int] | None, progress: bool) -> RunTimes:
    """Packs the shards of part (number, of how many), or all. Those that another process is packing are left to it, and
    waited for. Returns where the time went."""
    indexed = isinstance(plan.source, IndexedSource)
    numbers = plan.numbers(*part) if part is not None else plan.numbers() if indexed else None
    run = _LocalRun(plan, numbers, progress)
    try:
        run.pack_all()
    except KeyboardInterrupt:
        raise KeyboardInterrupt(stopped(plan)) from None
    except LargedsError:
        raise
    except OSError as error:
        if not is_store(plan.out):  # else another process finished the store, and removed what we were writing
            raise storage_error(error, plan) from error
    finally:
        run.packer.end()
    return run.times()


def stopped(plan: Plan) -> str:
    """What an interrupted pack says."""
    ready = len(list(plan.out.glob("shard-*")))
    begin = f"stopped with {ready} of {plan.shards or 'an unknown number of'} shards finished in {plan.where}: "
    if plan.identity is not None:
        return f"{begin}run the same pack again to go on from there"
    return (
        f"{begin}nothing tells this {plan.source.description} from another one, so begin again with resume=False; a "
        "pack with key='...', a name of yours for the data, can go on"
    )


class _LocalRun:
    def __init__(self, plan: Plan, numbers: range | None, progress: bool) -> None:
        self._plan, self._numbers = plan, numbers
        self._claims = Claims(plan.out)
        self.packer = ShardPacker(plan, self._claims)
        self._start, self._seconds = time.perf_counter(), 0.0
        self._done = self._failed = self._found = 0  # samples; `found` in shards that other runs have packed
        self._bar = PackProgressBar(plan.source.count if numbers is None else plan.count(numbers), progress)

    def pack_all(self) -> None:
        with self._bar:
            if self._numbers is None:
                self._in_order()
            else:
                self._in_any_order(self._begin_somewhere(list(self._numbers)))
            self.packer.finish()
        self._seconds = time.perf_counter() - self._start

    def times(self) -> RunTimes:
        packer = self.packer
        return RunTimes(self._seconds, packer.threads, packer.clock, packer.waited, tuple(packer.records))

    def _begin_somewhere(self, numbers: list[int]) -> list[int]:
        """In object storage nothing tells what other processes are packing, so each begins at another shard."""
        begin = secrets.randbelow(len(numbers)) if self._plan.mirror is not None and numbers else 0
        return numbers[begin:] + numbers[:begin]

    def _in_any_order(self, pending: list[int]) -> None:
        while pending:
            left = [number for number in pending if self._step(number) is None]
            if len(left) == len(pending):
                time.sleep(POLL_SECONDS)
            pending = left

    def _in_order(self) -> None:
        """For a source that can only be read from its start to its end."""
        number = 0
        while self._plan.shards is None or number < self._plan.shards:
            samples = self._step(number)
            if samples is None:
                time.sleep(POLL_SECONDS)
            elif samples:
                number += 1
            else:
                return

    def _step(self, number: int) -> int | None:
        """The samples of a shard that is there, or that this run has packed now; None if another run is packing it. A
        source that ended before has none."""
        record = existing(self._plan, number)
        if record is not None:
            self._found += record.samples
            return self._count(record.samples, sum(record.failed.values()))
        claim = self._claims.claim(number)
        if claim is None:
            return None
        done, failed = self._done, self._failed
        samples, missing = self.packer.pack(number, claim, lambda n, bad: self._show(done + n, failed + bad))
        return self._count(samples, missing)

    def _count(self, samples: int, failed: int) -> int:
        self._done, self._failed = self._done + samples, self._failed + failed
        self._show(self._done, self._failed)
        return samples

    def _show(self, done: int, failed: int) -> None:
        elapsed = max(time.perf_counter() - self._start, 1e-9)
        read_rate = self.packer.clock.bytes_read / elapsed
        self._bar.update(done, failed, (done - self._found) / elapsed, read_rate)
