"""Fetches the shards of a store in object storage ahead of the batches that need them.

A batch is given to the core only when its shards are there, and they are pinned until it is delivered. Threads fetch
what the next batches need, soonest first. An error of a fetch is raised in the place of the batch that needs the shard.
"""

from __future__ import annotations

import atexit
import random
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from largeds_native._internal.objects import Cancelled
from largeds_native.errors import ArgumentError
from largeds_native.loading.cursor import NOTHING, Progress
from largeds_native.loading.look_ahead import LookAhead, Shards
from largeds_native.loading.order import Int64Array
from largeds_native.loading.plan import OrderPlan, SamplerPlan
from largeds_native.store import ConcatStore, RemoteStore, Store
from largeds_native.store.remote.shard_cache import PATIENCE_SECONDS, NoRoom, ShardCache

THREADS = 3  # that fetch, a shard each
LOCAL_ORDERS = ("sequential", "block")  # that need few shards at a time
LOOK_SECONDS = 0.2  # between looks at what is needed now


@dataclass(frozen=True)
class RemotePart:
    """The rows [start, end) of a store, which are in object storage."""

    start: int
    end: int
    store: RemoteStore


def remote_parts(store: Store) -> list[RemotePart]:
    """The parts of a store that are in object storage."""
    starts = [(0, store)]
    if isinstance(store, ConcatStore):
        sizes = np.cumsum([0, *map(len, store.parts)]).tolist()
        starts = list(zip(sizes, store.parts, strict=False))
    return [
        RemotePart(start, start + len(part), part)
        for start, part in starts
        if isinstance(part, RemoteStore) and len(part)
    ]


def shards_to_fetch(store: Store, plan: OrderPlan | SamplerPlan, skips_damaged: bool) -> ShardNumbers | None:
    """None for a local store. ArgumentError for what a Loader can't do with one in object storage; a warning for an
    order that needs all of a store that the cache can't hold."""
    parts = remote_parts(store)
    if not parts:
        return None
    if skips_damaged:
        raise ArgumentError(
            f"on_damage='skip': expected a local store, found {store.location}: its shards are compared with their "
            "hashes when they are fetched, so no row of them is damaged"
        )
    numbers = ShardNumbers(parts)
    small = next((part.store for part in parts if not part.store.cache.keeps_all), None)
    if small is not None and isinstance(plan, OrderPlan) and plan.order.name not in LOCAL_ORDERS:
        warnings.warn(
            f"the cache of {small.location} holds less than the store, and the order takes rows from all shards at "
            "once, so that shards are fetched again and again: pass order='block', block='shard', or a larger "
            "cache_bytes",
            UserWarning,
            stacklevel=3,
        )
    return numbers


def batches_ahead(plan: OrderPlan | SamplerPlan, epoch: int, start: Progress) -> Iterator[Int64Array]:
    """The samples of the batches from `start` on, and of the next epoch. None of a sampler, which may change when it is
    iterated over a second time."""
    if isinstance(plan, OrderPlan):
        # another thread asks for another epoch meanwhile, and an order keeps what it knows of one
        plan = replace(plan, order=plan.order.copy())
        for some, begin in ((epoch, start), (epoch + 1, NOTHING)):
            for planned in plan.batches(some, begin):
                yield planned.samples


class ShardNumbers:
    """Numbers the shards of all remote parts of a store."""

    def __init__(self, parts: Sequence[RemotePart]) -> None:
        self.parts = parts
        self.owners: list[tuple[ShardCache, int]] = []  # of each number, the cache and its own number there
        self._first: list[int] = []
        for part in parts:
            self._first.append(len(self.owners))
            self.owners += [(part.store.cache, i) for i in range(len(part.store.shards))]

    def of(self, samples: Int64Array) -> Shards:
        """The shards that have these rows, each once."""
        found: list[int] = []
        for part, first in zip(self.parts, self._first, strict=True):
            rows = samples
            if len(self.parts) > 1 or part.start or part.end < int(samples.max(initial=0)):
                rows = samples[(samples >= part.start) & (samples < part.end)] - part.start
            found += [first + shard for shard in part.store.shards_of(rows)]
        return tuple(found)

    @property
    def complete(self) -> bool:
        return all(part.store.cache.complete for part in self.parts)

    @property
    def room(self) -> int:
        """How many shards the caches hold, of average size."""
        total = 0
        for part in self.parts:
            cache = part.store.cache
            if cache.keeps_all or cache.limit is None:
                total += len(cache.sizes)
            else:
                total += int(cache.limit // max(1, sum(cache.sizes) / len(cache.sizes)))
        return total


class Fetcher:
    """batches: an iterator over the samples of the batches to come, the first of which is asked for next."""

    def __init__(self, numbers: ShardNumbers, batches: Iterator[Int64Array]) -> None:
        self._numbers = numbers
        self._ahead = LookAhead((numbers.of(samples) for samples in batches), numbers.room)
        self._lock = threading.Condition()
        self._stop = threading.Event()
        self._needed: Shards = ()  # shards that a batch waits for: before all others
        self._coming: set[int] = set()
        self._here: set[int] = set()  # fetched ahead, and pinned by us until a batch has them
        self._tight = False  # only what a batch waits for is fetched
        self._errors: dict[int, Exception] = {}
        self._changes = self._seen = 0  # counts what the iterator's thread may wait for
        self._pinned: dict[int, tuple[int, Shards]] = {}  # position after a batch -> (its number, its shards)
        self._ready: set[int] = set()  # positions of batches whose pins are complete
        self._batch = 0  # number of the next batch to be pinned
        self._counts = dict.fromkeys(("fetched_bytes", "fetched_shards", "cache_hits"), 0)
        self._waited = 0.0
        self._threads: list[threading.Thread] = []
        self._running = 0  # threads that have not ended
        self._closed = False
        _fetchers.add(self)

    # ---- of the iterator's thread -----------------------------------------------------------------------------------
    def pin(self, samples: Int64Array, position: int) -> bool:
        """Pins the shards of a batch, if they are all there; `position` is the one after it. Raises the error of a
        fetch that it needs."""
        self._seen = self._changes
        if position in self._ready:  # an interrupt came between this and the core
            return True
        # Every step may be interrupted, and is done again then: see Note [Interrupts]
        if position not in self._pinned:
            self._pinned[position] = (self._batch, self._numbers.of(samples))
            self._batch += 1
        shards = self._pinned[position][1]
        if not self._pin(shards, position):
            self._unpin(shards, (self, position))
            self._ask_for(shards)
            return False
        self._ready.add(position)
        return True

    def _pin(self, shards: Shards, position: int) -> bool:
        for shard in shards:
            cache, number = self._numbers.owners[shard]
            if not cache.pin_if_held((number,), (self, position)):
                return False
        with self._lock:
            self._needed, self._tight = (), False
        self._unpin([shard for shard in shards if shard in self._here], self)
        with self._lock:
            self._here.difference_update(shards)
        return True

    def _ask_for(self, shards: Shards) -> None:
        with self._lock:
            for shard in shards:
                if (error := self._errors.pop(shard, None)) is not None:
                    raise error
            if self._needed != shards:
                self._check_room(shards)
            self._needed = shards
            self._lock.notify_all()
        self._start()

    def _check_room(self, shards: Shards) -> None:
        caches: dict[ShardCache, list[int]] = {}
        for shard in shards:
            cache, number = self._numbers.owners[shard]
            caches.setdefault(cache, []).append(number)
        for cache, numbers in caches.items():
            cache.check_fits(numbers, "a batch")

    def wait(self) -> None:
        """Until something was fetched, or a moment passed. It may be interrupted at any time."""
        started = time.perf_counter()
        with self._lock:
            if self._changes == self._seen:
                self._lock.wait(LOOK_SECONDS)
        self._waited += time.perf_counter() - started

    def delivered(self, position: int) -> None:
        """The batches up to this position were delivered, so their shards are not read any more."""
        for after in [after for after in self._pinned if after <= position]:
            batch, shards = self._pinned[after]
            self._unpin(shards, (self, after))
            self._ahead.advance(batch + 1)
            self._ready.discard(after)
            self._pinned.pop(after)
            with self._lock:  # there may be room now
                self._lock.notify_all()

    def _unpin(self, shards: Sequence[int], owner: object) -> None:
        for shard in shards:
            cache, number = self._numbers.owners[shard]
            cache.unpin((number,), owner)

    @property
    def complete(self) -> bool:
        return self._numbers.complete

    def stats(self) -> dict[str, Any]:
        return {**self._counts, "fetch_waiting_seconds": self._waited}

    def close(self, end_jobs: Callable[[], object]) -> None:
        """Ends the jobs of the core, which read shards, and tells the threads to end, the last of which ends all pins.
        It waits for no thread: the garbage collector may call it in any thread, also in the one of fsspec that answers
        their requests, and while that holds a lock."""
        end_jobs()
        self._stop.set()
        with self._lock:
            self._closed = True
            self._lock.notify_all()
            if not self._running:
                self._end_pins()

    def join(self) -> None:
        """Waits until the threads have ended."""
        self._stop.set()
        with self._lock:
            self._lock.notify_all()
        for thread in self._threads:
            thread.join()

    def _end_pins(self) -> None:
        here, self._here = list(self._here), set()
        self._unpin(here, self)
        for after, (_, shards) in list(self._pinned.items()):
            self._unpin(shards, (self, after))
        self._pinned.clear()

    # ---- threads -----------------------------------------------------------------------------------------------------
    def _start(self) -> None:
        if not self._threads and not self._stop.is_set():
            self._threads = [
                threading.Thread(target=self._run, args=(i == 0,), name=f"largeds-fetch-{i}", daemon=True)
                for i in range(THREADS)
            ]
            for thread in self._threads:
                with self._lock:
                    self._running += 1
                thread.start()

    def _run(self, looks_ahead: bool) -> None:
        try:
            self._fetch_all(looks_ahead)
        finally:
            with self._lock:
                self._running -= 1
                if not self._running and self._closed:  # else jobs of the core may still read
                    self._end_pins()

    def _fetch_all(self, looks_ahead: bool) -> None:
        while not self._stop.is_set() and not self._numbers.complete:
            try:
                if looks_ahead:
                    self._ahead.grow(self._stop.is_set)
            except Exception:  # of a sampler: the iterator meets it in its place
                looks_ahead = False
            shard = self._next_shard()
            if shard is None:
                with self._lock:
                    self._lock.wait(LOOK_SECONDS / 4)
                continue
            self._fetch(shard)

    def _next_shard(self) -> int | None:
        """The shard that is needed soonest, and is neither here nor coming."""
        wanted = self._ahead.wanted()
        with self._lock:
            room = self._numbers.room
            ahead = [] if self._tight else wanted[: room + 1]
            for shard in (*self._needed, *(shard for _, shard in ahead)):
                cache, number = self._numbers.owners[shard]
                if shard in self._coming or shard in self._errors or cache.is_held(number):
                    continue
                self._coming.add(shard)
                return shard
        return None

    def _fetch(self, shard: int) -> None:
        cache, number = self._numbers.owners[shard]
        with self._lock:
            is_needed = shard in self._needed
            waits = is_needed and not self._here.difference(self._needed)  # else we have room to give
        try:
            cache.acquire(
                number,
                self,
                cancel=self._stop,
                next_use=self._next_use_in(cache),
                count=self._count,
                sooner_than=None if is_needed else self._ahead.next_use(shard),
                patience=PATIENCE_SECONDS if waits else 0,
            )
            self._arrived(shard)
        except NoRoom:
            self._make_way(shard, is_needed)
        except Cancelled:
            pass
        except Exception as error:
            with self._lock:
                self._errors[shard] = error
        finally:
            with self._lock:
                self._coming.discard(shard)
                self._changes += 1
                self._lock.notify_all()

    def _next_use_in(self, cache: ShardCache) -> Callable[[int], float]:
        first = next(i for i, (other, _) in enumerate(self._numbers.owners) if other is cache)
        return lambda number: self._ahead.next_use(first + number)

    def _arrived(self, shard: int) -> None:
        """It stays pinned until a batch has it, where it would be let go otherwise."""
        cache, number = self._numbers.owners[shard]
        with self._lock:
            keep = not cache.keeps_all and not self._stop.is_set()
            if keep:
                self._here.add(shard)
        if not keep:
            cache.unpin((number,), self)

    def _make_way(self, shard: int, is_needed: bool) -> None:
        """A batch waits, and there is no room: what was fetched ahead, and is not needed by it, is let go. If there is
        nothing such, what it needs is let go for a moment: another process may wait for it, and have what we need."""
        with self._lock:
            if not is_needed:
                self._lock.wait(LOOK_SECONDS)
                return
            self._tight = True
            here = list(self._here)
            ahead = [shard for shard in here if shard not in self._needed]
            given = ahead or here
            self._here.difference_update(given)
        self._unpin(given, self)
        if not ahead:
            self._stop.wait(random.random() * LOOK_SECONDS)

    def _count(self, what: str, number: int) -> None:
        with self._lock:
            self._counts[what] += number


_fetchers: weakref.WeakSet[Fetcher] = weakref.WeakSet()


def _end_all() -> None:
    """Before the interpreter ends: its threads would be stopped in the middle of what they do."""
    for fetcher in list(_fetchers):
        fetcher.join()


atexit.register(_end_all)
