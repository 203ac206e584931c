"""Syncs finished shards to disk in a thread of its own, while the next shard is decoded."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from largeds_native.store.format.shard_record import ShardRecord


class Finisher:
    """Finishes one shard at a time; `add` first waits for the previous shard, and raises its error."""

    def __init__(self) -> None:
        self.records: dict[int, ShardRecord] = {}
        self.waited = 0.0  # seconds for which decoding waited for the disk
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def add(self, number: int, finish: Callable[[], ShardRecord]) -> None:
        self.wait()

        def work() -> None:
            try:
                self.records[number] = finish()
            except BaseException as error:
                self._error = error

        self._thread = threading.Thread(target=work, name="largeds-finish", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Waits until no shard is being finished; raises the error of a shard that failed."""
        start = time.perf_counter()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.waited += time.perf_counter() - start
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def detach(self, then: Callable[[], None], timeout: float) -> None:
        """Calls `then` when no shard is being finished any more: here, or in another thread if that takes longer than
        `timeout` seconds."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout)
        if thread is None or not thread.is_alive():
            then()
            return

        def work() -> None:
            thread.join()
            then()

        threading.Thread(target=work, name="largeds-unlock", daemon=True).start()
