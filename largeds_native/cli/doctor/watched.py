"""Runs a user's script with DataLoader and Loader watched: python -m largeds_native.cli.doctor.watched RESULT SECONDS
SCRIPT ARGUMENTS.

Each iteration over one of them is timed: waiting in `next()`, and the rest until the next call. When `SECONDS` of
steady batches of one loader have been seen, what was seen is written to RESULT as JSON, and the process ends there and
then: nothing that the script would do at its end is done.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

START_UP = 4  # batches at the begin of a pass that are not counted as steady
LEAST = 3  # steady batches, however long they take


class Watch:
    """Every pass over every loader of the process."""

    def __init__(self, result: str, seconds: float) -> None:
        self.result, self.seconds = result, seconds
        self.owner = os.getpid()
        self.loaders: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._kept: list[Any] = []

    def patch(self) -> None:
        from torch.utils.data import DataLoader

        from largeds_native.loading import Loader

        for kind in (DataLoader, Loader):
            self._patch(kind)

    def _patch(self, kind: Any) -> None:
        watch, begin = self, kind.__iter__

        def timed(loader: Any) -> Any:
            if os.getpid() != watch.owner:  # in a worker
                return begin(loader)
            started = time.perf_counter()
            return Timed(watch, watch.begun(loader), begin(loader), started, lambda: begin(loader))

        kind.__iter__ = timed

    def begun(self, loader: Any) -> dict[str, Any]:
        """The record of this loader: one for all that are made alike, as some scripts make one an epoch."""
        try:
            batches = len(loader)
        except TypeError:
            batches = None
        data = getattr(loader, "dataset", getattr(loader, "store", loader))
        facts = {"kind": type(loader).__name__, "batches": batches, "batch_size": getattr(loader, "batch_size", None)}
        key = (*facts.values(), id(data))
        if key not in self.loaders:
            self._kept.append(data)  # so that nothing else gets its id
            workers = getattr(loader, "num_workers", None)
            self.loaders[key] = facts | {"workers": workers, "steady_seconds": 0.0, "passes": []}
        return self.loaders[key]

    def write(self, alone: float | None = None, ended: bool = False) -> None:
        content = {"loaders": list(self.loaders.values()), "alone": alone, "ended": ended}
        with open(self.result + ".part", "w") as file:
            json.dump(content, file)
        os.replace(self.result + ".part", self.result)


class Timed(Iterator[Any]):
    """An iterator with a watch beside it; all else is the iterator's own."""

    def __init__(
        self, watch: Watch, record: dict[str, Any], iterator: Any, started: float, again: Callable[[], Iterator[Any]]
    ) -> None:
        self._watch, self._record, self._iterator, self._again = watch, record, iterator, again
        self._pass: dict[str, Any] = {"done": [], "waited": [], "ended": None}
        self._started, self._got = started, 0.0
        record["passes"].append(self._pass)

    def __next__(self) -> Any:
        _finish_device()
        asked = time.perf_counter()
        if self._got:
            self._step_ends(asked)
        try:
            batch = next(self._iterator)
        except StopIteration:
            self._pass["ended"] = time.perf_counter() - self._started
            self._got = 0.0
            raise
        self._got = time.perf_counter()
        self._pass["waited"].append(self._got - (asked if len(self._pass["waited"]) else self._started))
        return batch

    def _step_ends(self, now: float) -> None:
        done = self._pass["done"]
        done.append(now - self._started)
        if len(done) > START_UP:
            self._record["steady_seconds"] += done[-1] - done[-2]
        steady = len(done) - START_UP
        if self._record["steady_seconds"] > self._watch.seconds and steady >= LEAST:
            self._stop()

    def _stop(self) -> None:
        """Writes what was seen, then once more with the loader's own speed: a pass without the script's step."""
        self._watch.write()
        fresh = self._again()
        begin = now = time.perf_counter()
        drained = -START_UP
        while next(fresh, None) is not None:
            now = time.perf_counter()
            drained += 1
            if drained == 0:
                begin = now
            if now - begin > self._watch.seconds / 4 or drained > 2000:
                break
        if drained > START_UP:
            self._watch.write(drained / (now - begin))
        sys.stdout.flush()
        os._exit(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._iterator, name)


def _finish_device() -> None:
    """A GPU's work belongs to the step that asked for it, not to the wait for the next batch."""
    import torch

    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()


def main() -> None:
    result, seconds, script, *arguments = sys.argv[1:]
    watch = Watch(result, float(seconds))
    watch.patch()
    sys.argv = [script, *arguments]
    sys.path[0] = os.path.dirname(os.path.abspath(script))
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if end.code not in (None, 0):
            raise
    watch.write(ended=True)


if __name__ == "__main__":
    main()
