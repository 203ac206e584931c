"""Which shards an epoch needs next, and when: for fetching them ahead, and for evicting what is needed last."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator

GAP = 256  # batches without a shard, after which its next use is a use of its own
Shards = tuple[int, ...]  # of one batch


class LookAhead:
    """A window of the batches to come. It grows until its shards are more than the cache holds, so it knows all that
    the cache can be used for; it keeps ranges of batches by shard, and no rows.

    batches: the shards of each batch, from the next one to be delivered on. room: how many shards the cache holds.
    """

    def __init__(self, batches: Iterator[Shards], room: int) -> None:
        self._batches, self._room = batches, max(room, 1)
        self._now = 0  # the batch that is delivered next
        self._forgotten = 0  # the batch before which uses were forgotten
        self._scanned = 0  # batches in or before the window
        self._uses: dict[int, deque[list[int]]] = {}  # shard -> [first, last] batches of each use
        self._ended = False
        self._lock = threading.Lock()

    def advance(self, batch: int) -> None:
        """The batches before this one were delivered."""
        with self._lock:
            self._now = max(self._now, batch)

    def grow(self, stopped: Callable[[], bool], most: int = 64) -> bool:
        """Looks at up to `most` further batches. False if the window is as large as it may be."""
        for _ in range(most):
            if self._ended or stopped() or self._is_full():
                return False
            shards = next(self._batches, None)
            if shards is None:
                self._ended = True
                return False
            with self._lock:
                for shard in shards:
                    self._add(shard, self._scanned)
                self._scanned += 1
        return True

    def _add(self, shard: int, batch: int) -> None:
        uses = self._uses.setdefault(shard, deque())
        if uses and batch - uses[-1][1] <= GAP:
            uses[-1][1] = batch
        else:
            uses.append([batch, batch])

    def _is_full(self) -> bool:
        with self._lock:
            self._forget()
            return len(self._uses) > self._room

    def _forget(self) -> None:
        """Uses that are over."""
        if self._forgotten == self._now:
            return
        self._forgotten = self._now
        for shard in [shard for shard, uses in self._uses.items() if uses[0][1] < self._now]:
            uses = self._uses[shard]
            while uses and uses[0][1] < self._now:
                uses.popleft()
            if not uses:
                del self._uses[shard]

    def next_use(self, shard: int) -> float:
        """The batch that needs the shard next, counted from the start; infinity if none in the window does."""
        with self._lock:
            for first, last in self._uses.get(shard, ()):
                if last >= self._now:
                    return max(first, self._now)
            return float("inf")

    def wanted(self) -> list[tuple[float, int]]:
        """(next use, shard) of the shards in the window, soonest first."""
        with self._lock:
            self._forget()
            return sorted((max(uses[0][0], self._now), shard) for shard, uses in self._uses.items())
