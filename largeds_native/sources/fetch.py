"""Reads samples that lie in object storage: many requests at once, ahead of the decoder."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from largeds_native._internal.object_file import object_at
from largeds_native._internal.objects import Cancelled
from largeds_native._internal.urls import is_url
from largeds_native.errors import MissingObjectError
from largeds_native.sources.base import FailedItem, IndexedSource, Item, Source, SourceBatch

CONNECTIONS = 48  # requests at once
BATCH_BYTES = 32 << 20
FIRST_BATCH = 32  # samples, before their sizes are known
MOST = 4096
AHEAD = 3  # batches that are being read while one is decoded


def read_batches(source: Source, start: int, stop: int) -> Iterator[SourceBatch]:
    """As `source.read`, with the bytes of objects in the place of their URLs. An object that is missing is a failed
    sample. Raises StorageError for one that can't be read."""
    if not source.is_remote or not isinstance(source, IndexedSource):
        yield from source.read(start, stop)
        return
    with Fetcher() as fetcher:
        pending: deque[_Fetching] = deque()
        step, ahead = FIRST_BATCH, 0
        while start < stop or pending:
            while start < stop and len(pending) <= ahead:
                end = min(start + step, stop)
                pending.append(fetcher.begin(source.take(np.arange(start, end))))
                start = end
            batch = pending.popleft().result()
            yield batch
            step, ahead = _next_step(batch, step), AHEAD


def fetch(items: Iterable[Item]) -> list[Item]:
    """These items, with the bytes of objects in the place of their URLs."""
    listed = list(items)
    if not any(map(_is_remote, listed)):
        return listed
    with Fetcher() as fetcher:
        return [one.result() if isinstance(one, Future) else one for one in map(fetcher.item, listed)]


def fetch_batch(batch: SourceBatch) -> SourceBatch:
    """The same of a batch."""
    return replace(
        batch, items=fetch(batch.items), pictures={name: fetch(items) for name, items in batch.pictures.items()}
    )


class Fetcher:
    """Threads that read objects; they end with the block, which gives up what nobody waits for any more."""

    def __enter__(self) -> Fetcher:
        self._cancel = threading.Event()
        self._pool = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="largeds-fetch")
        return self

    def __exit__(self, *_: object) -> None:
        self._cancel.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def item(self, item: Item) -> Item | Future[Item]:
        return self._pool.submit(self._read, item) if _is_remote(item) else item

    def begin(self, batch: SourceBatch) -> _Fetching:
        pictures = {name: list(map(self.item, items)) for name, items in batch.pictures.items()}
        return _Fetching(batch, list(map(self.item, batch.items)), pictures)

    def _read(self, item: Item) -> Item:
        url, offset, length = item if isinstance(item, tuple) else (item, 0, -1)
        folder, name = object_at(str(url))
        try:
            if length < 0:
                return folder.read(name, cancel=self._cancel)
            return folder.read_exactly(name, offset, offset + length, cancel=self._cancel)
        except MissingObjectError as error:
            return FailedItem("missing", "the object does not exist", error)
        except Cancelled:
            return b""


class _Fetching:
    """A batch whose objects are being read."""

    def __init__(
        self,
        batch: SourceBatch,
        items: list[Item | Future[Item]],
        pictures: dict[str, list[Item | Future[Item]]],
    ) -> None:
        self._batch, self._items, self._pictures = batch, items, pictures

    def result(self) -> SourceBatch:
        pictures = {name: _results(items) for name, items in self._pictures.items()}
        return replace(self._batch, items=_results(self._items), pictures=pictures)


def _results(items: list[Item | Future[Item]]) -> list[Item]:
    return [one.result() if isinstance(one, Future) else one for one in items]


def _is_remote(item: Item) -> bool:
    return is_url(item[0] if isinstance(item, tuple) else item)


def _next_step(batch: SourceBatch, step: int) -> int:
    """Samples of the next batch, for a bounded number of bytes."""
    size = sum(len(item) for items in (batch.items, *batch.pictures.values()) for item in items if type(item) is bytes)
    return max(1, min(MOST, 2 * step, BATCH_BYTES * len(batch.items) // max(size, 1)))
