"""Runs a user's script with DataLoader and Loader instrumented:

python -m largeds_native.profile.doctor.instrument RESULT SECONDS SCRIPT ARGUMENTS

Each iteration over a loader is timed: the wait in `next()`, and the time until the next call. After SECONDS of steady
batches from one loader, the record is written to RESULT as JSON, and the process exits immediately, without any code
that the script would run at its end.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

WARMUP = 4  # batches at the start of a pass that are not steady
MIN_BATCHES = 3  # smallest number of steady batches, regardless of their time
MAX_DRAINED = 2000  # largest number of batches of a pass without the script's step


class Recorder:
    """Records every pass over every loader of this process."""

    def __init__(self, result: str, seconds: float) -> None:
        self.result, self.seconds = result, seconds
        self.owner = os.getpid()
        self.loaders: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._datasets: list[Any] = []

    def install(self) -> None:
        """Replaces `__iter__` of both loader classes."""
        from torch.utils.data import DataLoader

        from largeds_native.loading import Loader

        for kind in (DataLoader, Loader):
            self._install_in(kind)

    def _install_in(self, kind: Any) -> None:
        recorder, original = self, kind.__iter__

        def timed_iter(loader: Any) -> Any:
            if os.getpid() != recorder.owner:  # in a worker
                return original(loader)
            started = time.perf_counter()
            return TimedIterator(
                recorder, recorder.record_of(loader), original(loader), started, lambda: original(loader)
            )

        kind.__iter__ = timed_iter

    def record_of(self, loader: Any) -> dict[str, Any]:
        """The record of this loader. Equal loaders share one, as some scripts create a new loader in each epoch."""
        try:
            batches = len(loader)
        except TypeError:
            batches = None
        data = getattr(loader, "dataset", getattr(loader, "store", loader))
        facts = {"kind": type(loader).__name__, "batches": batches, "batch_size": getattr(loader, "batch_size", None)}
        key = (*facts.values(), id(data))
        if key not in self.loaders:
            self._datasets.append(data)  # keep it alive, so that no other object gets its id
            workers = getattr(loader, "num_workers", None)
            self.loaders[key] = facts | {"workers": workers, "steady_seconds": 0.0, "passes": []}
        return self.loaders[key]

    def write(self, loader_rate: float | None = None, ended: bool = False) -> None:
        """loader_rate: batches/s of the loader without the script's step. ended: whether the script ran to its end."""
        content = {"loaders": list(self.loaders.values()), "loader_rate": loader_rate, "ended": ended}
        with open(self.result + ".part", "w") as file:
            json.dump(content, file)
        os.replace(self.result + ".part", self.result)


class TimedIterator(Iterator[Any]):
    """Times a loader's iterator; all other attributes are those of the iterator."""

    def __init__(
        self,
        recorder: Recorder,
        record: dict[str, Any],
        iterator: Any,
        started: float,
        new_pass: Callable[[], Iterator[Any]],
    ) -> None:
        self._recorder, self._record, self._iterator, self._new_pass = recorder, record, iterator, new_pass
        self._pass: dict[str, Any] = {"done": [], "waited": [], "ended": None}
        self._started, self._got = started, 0.0
        record["passes"].append(self._pass)

    def __next__(self) -> Any:
        _finish_device()
        asked = time.perf_counter()
        if self._got:
            self._end_step(asked)
        try:
            batch = next(self._iterator)
        except StopIteration:
            self._pass["ended"] = time.perf_counter() - self._started
            self._got = 0.0
            raise
        self._got = time.perf_counter()
        self._pass["waited"].append(self._got - (asked if len(self._pass["waited"]) else self._started))
        return batch

    def _end_step(self, now: float) -> None:
        done = self._pass["done"]
        done.append(now - self._started)
        if len(done) > WARMUP:
            self._record["steady_seconds"] += done[-1] - done[-2]
        if self._record["steady_seconds"] > self._recorder.seconds and len(done) - WARMUP >= MIN_BATCHES:
            self._write_and_exit()

    def _write_and_exit(self) -> None:
        """Writes the record, then again with the speed of the loader alone, from a pass without the script's step."""
        self._recorder.write()
        fresh = self._new_pass()
        begin = now = time.perf_counter()
        drained = -WARMUP
        while next(fresh, None) is not None:
            now = time.perf_counter()
            drained += 1
            if drained == 0:
                begin = now
            if now - begin > self._recorder.seconds / 4 or drained > MAX_DRAINED:
                break
        if drained > WARMUP:
            self._recorder.write(drained / (now - begin))
        sys.stdout.flush()
        os._exit(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._iterator, name)


def _finish_device() -> None:
    """Waits for the GPU, so that its work counts for the step that started it, not for the wait for the next batch."""
    import torch

    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()


def main() -> None:
    result, seconds, script, *arguments = sys.argv[1:]
    recorder = Recorder(result, float(seconds))
    recorder.install()
    sys.argv = [script, *arguments]
    sys.path[0] = os.path.dirname(os.path.abspath(script))
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if end.code not in (None, 0):
            raise
    recorder.write(ended=True)


if __name__ == "__main__":
    main()
