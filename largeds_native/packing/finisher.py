"""Makes finished shards durable behind the back of the next shard's decoding."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from largeds_native.packing.record import ShardRecord


class Finisher:
    """At most one shard is being finished; `add` waits for the one before. Its error is raised by the next call."""

    def __init__(self) -> None:
        self.records: dict[int, ShardRecord] = {}
        self.waited = 0.0  # seconds that decoding stood still for the disk
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
        start = time.perf_counter()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.waited += time.perf_counter() - start
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def leave(self, then: Callable[[], None], seconds: float) -> None:
        """Calls `then` when nothing is being finished any more, without waiting for it longer than `seconds`."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)
        if thread is None or not thread.is_alive():
            then()
            return

        def work() -> None:
            thread.join()
            then()

        threading.Thread(target=work, name="largeds-unlock", daemon=True).start()
