"""The shards of a store in object storage that this process uses: fetched once, held while they are used.

A shard that is *held* can't be deleted by another process. One that is *pinned* is being read, or will be at once.
Where the cache has room for the whole store, what was fetched stays held. Where it has not, a shard is let go when
nobody has it pinned: its files are unmapped, and may be deleted to make room for another one.
"""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from largeds_native._internal.objects import Cancelled, ObjectFolder
from largeds_native._internal.units import size as size_text
from largeds_native.errors import StorageError, StoreError
from largeds_native.store.format.manifest import Manifest
from largeds_native.store.remote.cache_folder import CacheFolder, Lock
from largeds_native.store.remote.download import fetch_shard
from largeds_native.store.remote.shard_files import check_rows, shard_bytes

POLL_SECONDS = 0.02  # flock can't be waited for and interrupted
PATIENCE_SECONDS = 1.0  # for room, before shards that wait together with it are let go

NextUse = Callable[[int], float]  # how far ahead a shard is needed; infinity: not in sight
Fetched = Callable[[str, int], None]  # called with "fetched_bytes", "fetched_shards" or "cache_hits", and how many


class NoRoom(Exception):
    """Everything in the cache is in use."""


def never(_: int) -> float:
    return float("inf")


class ShardCache:
    """limit: of the bytes of this store in the cache, or None.

    Safe for threads and after a fork. `drop` is called with a shard that is let go: nobody reads it, and its mappings
    must go."""

    def __init__(self, source: ObjectFolder, manifest: Manifest, folder: Path, limit: int | None) -> None:
        self._source, self._manifest = source, manifest
        self._folder = CacheFolder(folder)
        self.sizes = [shard_bytes(manifest, entry) for entry in manifest.shards]
        self.limit = limit
        self.keeps_all = limit is None or limit >= sum(self.sizes)
        self.drop: Callable[[int], None] = lambda number: None
        self._nonempty = max(1, sum(entry.rows > 0 for entry in manifest.shards))
        self._numbers = {entry.name: number for number, entry in enumerate(manifest.shards)}
        self._begin()
        _caches.add(self)

    def _begin(self) -> None:
        self._lock = threading.Condition()
        self._alone = threading.RLock()  # of a thread that needs several shards, where there was no room for them
        self._held: dict[int, Lock] = {}
        # by whom: so that a pin may be set or ended twice, as after Ctrl-C, without harm
        self._pins: dict[int, set[object]] = {}
        self._coming: set[int] = set()  # shards that a thread of this process acquires

    def after_fork(self) -> None:
        """A forked child has none of what its parent holds."""
        inherited = list(self._held.values())
        self._begin()
        for lock in inherited:
            lock.close()

    @property
    def complete(self) -> bool:
        """Whether all shards with rows are here to stay."""
        return self.keeps_all and len(self._held) >= self._nonempty

    def name(self, number: int) -> str:
        return self._manifest.shards[number].name

    def is_held(self, number: int) -> bool:
        return number in self._held

    def is_local(self, number: int) -> bool:
        """Whether it is on the disk now; it may be gone in a moment unless it is held."""
        return self.is_held(number) or self._folder.has(self.name(number))

    def check_fits(self, numbers: Iterable[int], what: str) -> None:
        """Raises StoreError if these shards together are more than the cache may hold."""
        if self.keeps_all:
            return
        chosen = list(numbers)
        needed = sum(self.sizes[number] for number in chosen)
        if self.limit is not None and needed > self.limit:
            raise StoreError(
                f"{what} needs {len(chosen):,} shards of {self._source.url} at once, {needed:,} bytes, and cache_bytes "
                f"is {self.limit:,}: pass a larger one; in a Loader, order='block' with block='shard' needs few at once"
            )

    # ---- pins --------------------------------------------------------------------------------------------------------
    def pin_if_held(self, numbers: Sequence[int], owner: object) -> bool:
        """Pins them for an owner if all are held; else nothing."""
        with self._lock:
            if not all(number in self._held for number in numbers):
                return False
            for number in numbers:
                self._pins.setdefault(number, set()).add(owner)
            return True

    def unpin(self, numbers: Iterable[int], owner: object) -> None:
        with self._lock:
            for number in numbers:
                owners = self._pins.get(number, set())
                owners.discard(owner)
                if not owners:
                    self._pins.pop(number, None)
                    if not self.keeps_all:
                        self._let_go(number)

    def _let_go(self, number: int) -> None:
        if number in self._held:
            self.drop(number)
            self._folder.touch(self.name(number))
            self._held.pop(number).close()

    @contextmanager
    def using(self, numbers: Sequence[int]) -> Iterator[None]:
        """Fetches what is missing of these shards, and pins them for the time of the block."""
        owner = object()
        if not self.pin_if_held(numbers, owner):
            self.check_fits(numbers, "this read")
            if not self._acquire_all(numbers, owner):
                # others hold what we need room for, and may wait for what we hold: our own threads do so one by one
                with self._alone:
                    while not self._acquire_all(numbers, owner):
                        time.sleep(POLL_SECONDS + random.random() * PATIENCE_SECONDS / 4)
        try:
            yield
        finally:
            self.unpin(numbers, owner)

    def _acquire_all(self, numbers: Sequence[int], owner: object) -> bool:
        """False, and none is pinned, if there was no room."""
        try:
            for number in numbers:
                self.acquire(number, owner)
            return True
        except NoRoom:
            self.unpin(numbers, owner)
            return False
        except BaseException:
            self.unpin(numbers, owner)
            raise

    # ---- fetching ----------------------------------------------------------------------------------------------------
    def acquire(
        self,
        number: int,
        owner: object,
        *,
        cancel: threading.Event | None = None,
        next_use: NextUse = never,
        count: Fetched | None = None,
        sooner_than: float | None = None,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        """Pins a shard for an owner, after it was fetched if it is missing. One thread of one process of the machine
        fetches it, and the others wait.

        next_use: what is needed last is deleted first. sooner_than: delete only what is needed after this.

        Raises NoRoom if for `patience` seconds everything in the cache is in use; StoreError and StorageError.
        """
        condition = self._lock
        while True:
            with condition:
                if number in self._held:
                    self._pins.setdefault(number, set()).add(owner)
                    return
                if number not in self._coming:
                    self._coming.add(number)
                    break
                condition.wait(POLL_SECONDS * 5)
            if cancel is not None and cancel.is_set():
                raise Cancelled
        try:
            room = partial(self._room, number, cancel, next_use, sooner_than, patience)
            lock = self._locked(number, cancel, count, room)
            with condition:
                self._held[number] = lock
                self._pins.setdefault(number, set()).add(owner)
        finally:
            with condition:
                self._coming.discard(number)
                condition.notify_all()

    def _locked(
        self,
        number: int,
        cancel: threading.Event | None,
        count: Fetched | None,
        room: Callable[[], Path],
    ) -> Lock:
        """The shard's lock, shared, and the shard is there, and was checked since the machine started."""
        name, lock, found = self.name(number), self._folder.lock(self.name(number)), True
        try:
            while True:
                if not self._folder.has(name):
                    if lock.try_exclusive() and not self._folder.has(name):
                        found = False
                        self._fetch(number, cancel, count, room)
                        lock.set_checked()
                elif not lock.is_checked and lock.try_exclusive() and self._folder.has(name):
                    if not self._is_whole(number):
                        self._folder.remove(name)
                        continue
                    lock.set_checked()
                # Who has the lock shared has checked the shard, or has seen that it was. It may have been deleted
                # before we had the lock, as flock lets go of an exclusive one when it makes it shared
                if self._folder.has(name) and lock.try_shared() and self._folder.has(name):
                    if found and count is not None:
                        count("cache_hits", 1)
                    self._folder.touch(name)
                    return lock
                if cancel is not None and cancel.is_set():
                    raise Cancelled
                time.sleep(POLL_SECONDS)
        except BaseException:
            lock.close()
            raise

    def _is_whole(self, number: int) -> bool:
        """Of a shard of which nobody knows what the disk has kept of it."""
        try:
            check_rows(self._folder.path, self._manifest, self._manifest.shards[number])
        except (StoreError, StorageError):
            return False
        return True

    def _fetch(
        self,
        number: int,
        cancel: threading.Event | None,
        count: Fetched | None,
        room: Callable[[], Path],
    ) -> None:
        """With the shard's lock held exclusively."""
        entry = self._manifest.shards[number]
        self._folder.remove_left(entry.name)
        temporary = room()
        try:
            fetch_shard(
                self._source,
                self._manifest,
                entry,
                temporary,
                cancel=cancel,
                count=None if count is None else partial(count, "fetched_bytes"),
                rows_only=True,
            )
            (temporary / entry.name).rename(self._folder.path / entry.name)
            if count is not None:
                count("fetched_shards", 1)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _room(
        self,
        number: int,
        cancel: threading.Event | None,
        next_use: NextUse,
        sooner_than: float | None,
        patience: float,
    ) -> Path:
        """A folder for the shard, for which other shards were deleted if there was no room."""
        needed = self.sizes[number]
        deadline = time.monotonic() + patience
        while True:
            with self._folder.space():
                if self.keeps_all or self._make_room(needed, next_use, sooner_than):
                    return self._folder.temporary(self.name(number), needed)
            if cancel is not None and cancel.is_set():
                raise Cancelled
            if time.monotonic() > deadline:
                raise NoRoom(size_text(needed))
            time.sleep(POLL_SECONDS)

    def _make_room(self, needed: int, next_use: NextUse, sooner_than: float | None) -> bool:
        assert self.limit is not None
        excess = self._folder.used() + needed - self.limit
        if excess <= 0:
            return True
        numbers = self._numbers
        with self._lock:
            for number in [number for number in self._held if number not in self._pins]:
                self._let_go(number)  # an interrupt came between its last unpin and this
            free = [name for name in self._folder.shards() if numbers.get(name, -1) not in self._held]
        uses = {name: next_use(numbers[name]) for name in free if name in numbers}
        if sooner_than is not None:
            uses = {name: use for name, use in uses.items() if use > sooner_than}
        # those that are not needed, longest unused first; then those that are needed last
        order = sorted(uses, key=lambda name: (-uses[name], self._folder.last_used(name)))
        if sum(map(self._folder.bytes_of, order)) < excess:
            return False
        for name in order:
            size = self._folder.bytes_of(name)
            if self._folder.delete(name):
                excess -= size
            if excess <= 0:
                return True
        return False


_caches: weakref.WeakSet[ShardCache] = weakref.WeakSet()


def _after_fork() -> None:
    for cache in list(_caches):
        cache.after_fork()


os.register_at_fork(after_in_child=_after_fork)
