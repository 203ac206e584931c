"""Packs the shards of a plan on a Ray cluster: one task a shard. The tasks write the shards themselves, so that no
pixel goes through Ray's object store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from largeds_native.errors import ArgumentError, LargedsError, PackError
from largeds_native.packing.engine import Clock
from largeds_native.packing.local_run import stopped
from largeds_native.packing.pack_plan import Plan
from largeds_native.packing.progress import PackProgressBar
from largeds_native.packing.shard_packer import existing, pack_timed
from largeds_native.packing.summary import RunTimes
from largeds_native.store.format.shard_record import ShardRecord

AHEAD = 2  # tasks that wait for each one that runs: a million would fill the scheduler's memory
POLL_SECONDS = 0.2
STOP_SECONDS = 5.0  # until a task that does not stop is killed


def pack_on_ray(plan: Plan, progress: bool, address: str | None = None) -> RunTimes:
    """Packs what is missing. Ray runs a task again whose process or machine was lost."""
    with _cluster(address) as ray:
        run = _RayRun(plan, ray, progress)
        try:
            run.pack_all()
        except KeyboardInterrupt:
            run.cancel()
            raise KeyboardInterrupt(stopped(plan)) from None
        except BaseException:
            run.cancel()
            raise
        return run.times()


@contextmanager
def _cluster(address: str | None) -> Iterator[Any]:
    """Ray, connected to the cluster at `address`, to that of the caller, or to a new one of this machine."""
    try:
        import ray
    except ImportError:
        raise ArgumentError("engine='ray': Ray is not installed: pip install 'largeds-native[ray]'") from None
    if ray.is_initialized():
        yield ray
        return
    try:
        ray.init(address=address, include_dashboard=False if address is None else None, log_to_driver=False)
    except ConnectionError as error:
        raise ArgumentError(f"address: no Ray cluster was found at {address!r}: {error}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


class _RayRun:
    def __init__(self, plan: Plan, ray: Any, progress: bool) -> None:
        self._plan, self._ray, self._progress = plan, ray, progress
        self._numbers = plan.numbers()
        self._threads, self._at_once = _threads_and_tasks(plan, ray)
        self._task = ray.remote(num_cpus=self._threads)(pack_timed)
        self._running: dict[Any, int] = {}
        self._start = time.perf_counter()
        self._done = self._failed = self._found = 0  # samples; `found` in shards that were there
        self._clocks: list[Clock] = []
        self._waited = 0.0
        self._packed: list[int] = []

    def pack_all(self) -> None:
        missing = []
        with PackProgressBar(self._plan.source.count, self._progress) as bar:
            for number in self._numbers:
                if record := existing(self._plan, number):
                    self._found += record.samples
                    self._count(record, bar)
                else:
                    missing.append(number)
            for number in missing:
                while len(self._running) >= self._at_once * AHEAD:
                    self._take(bar)
                self._running[self._task.remote(self._plan.part(number, self._threads), number)] = number
            while self._running:
                self._take(bar)

    def times(self) -> RunTimes:
        clock = Clock(
            sum(one.read for one in self._clocks),
            sum(one.decode for one in self._clocks),
            sum(one.write for one in self._clocks),
            sum(one.bytes_read for one in self._clocks),
        )
        seconds = time.perf_counter() - self._start
        return RunTimes(
            seconds, self._threads * self._at_once, clock, self._waited / self._at_once, tuple(self._packed)
        )

    def cancel(self) -> None:
        """Stops the tasks that run or wait; they remove what they began."""
        tasks = list(self._running)
        for task in tasks:
            self._ray.cancel(task, force=False)
        _, left = self._ray.wait(tasks, num_returns=len(tasks), timeout=STOP_SECONDS) if tasks else ([], [])
        for task in left:
            self._ray.cancel(task, force=True)

    def _take(self, bar: PackProgressBar) -> None:
        """Waits a moment for tasks, and takes the results of those that ended."""
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=POLL_SECONDS)
        for task in ready:
            number = self._running.pop(task)
            record, clock, waited = self._result(task, number)
            self._clocks.append(clock)
            self._waited += waited
            self._packed.append(number)
            self._count(record, bar)

    def _result(self, task: Any, number: int) -> tuple[ShardRecord, Clock, float]:
        errors = self._ray.exceptions
        try:
            return self._ray.get(task)  # type: ignore[no-any-return]
        except errors.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, (LargedsError, MemoryError)):
                raise cause from None
            raise PackError(f"shard {number} could not be packed: {type(cause).__name__}: {cause}") from error
        except errors.RayError as error:
            raise PackError(
                f"shard {number} could not be packed, as its tasks were lost: {error}. The other shards are kept: run "
                "the same pack again"
            ) from error

    def _count(self, record: ShardRecord, bar: PackProgressBar) -> None:
        self._done += record.samples
        self._failed += sum(record.failed.values())
        elapsed = max(time.perf_counter() - self._start, 1e-9)
        bar.update(self._done, self._failed, (self._done - self._found) / elapsed)


def _threads_and_tasks(plan: Plan, ray: Any) -> tuple[int, int]:
    """The threads of a task, by default all processors of the smallest machine; and how many tasks run at once."""
    processors = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    processors = [number for number in processors if number]
    if not processors:
        raise PackError("the Ray cluster has no machine with processors")
    threads = plan.settings.threads or min(processors)
    at_once = sum(number // threads for number in processors)
    if not at_once:
        raise ArgumentError(
            f"threads: a task of {threads} fits no machine of the Ray cluster, the largest of which has "
            f"{max(processors)} processors"
        )
    return threads, at_once
