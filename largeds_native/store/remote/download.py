"""Fetches one shard from object storage into a local folder, and checks it before anybody sees it."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from largeds_native._internal.objects import ObjectFolder
from largeds_native.errors import MissingObjectError, StorageError, StoreError
from largeds_native.store.format.manifest import MAX_BYTES, Manifest, ShardEntry, manifest_of
from largeds_native.store.format.manifest import NAME as MANIFEST
from largeds_native.store.remote.shard_files import (
    LOG,
    MAX_LOG_BYTES,
    MAX_RECORD_BYTES,
    RECORD,
    check_rows,
    check_shard,
    row_files,
)

RANGE_BYTES = 32 << 20  # of one request
REQUESTS = 4  # in flight for one shard

Counter = Callable[[int], object]  # called with the bytes that came


def fetch_manifest(source: ObjectFolder) -> tuple[Manifest, bytes]:
    """The manifest of the store at a URL, and its bytes, by one request. Raises StoreError if there is none."""
    where = f"{source.url}/{MANIFEST}"
    try:
        data = source.read(MANIFEST, 0, MAX_BYTES + 1)
    except MissingObjectError as error:
        if "there is no bucket" in str(error):
            raise
        raise StoreError(f"{source.url} is not a store: it has no {MANIFEST}") from None
    return manifest_of(data, where), data


def fetch_shard(
    source: ObjectFolder,
    manifest: Manifest,
    entry: ShardEntry,
    folder: Path,
    *,
    cancel: threading.Event | None = None,
    count: Counter | None = None,
    rows_only: bool = False,
) -> None:
    """Writes the files of a shard to the new folder `folder / entry.name`, and compares them with their hashes. Nothing
    is synced.

    rows_only: without samples.parquet and shard.json, which loading does not need.

    Raises StoreError if they are not what the manifest means: the store was replaced, or is damaged. What was written
    then stays, for the caller to remove.
    """
    shard, inside = folder / entry.name, source.join(entry.name)
    shard.mkdir(parents=True)
    files = [_File(inside, shard, name, size) for name, size in row_files(manifest, entry).items()]
    whole = {LOG: MAX_LOG_BYTES, RECORD: MAX_RECORD_BYTES}
    if rows_only:
        whole = {} if entry.hash else {LOG: MAX_LOG_BYTES}
    try:
        with ExitStack() as opened:
            work: list[Callable[[], int]] = []
            for file in files:
                opened.enter_context(file)
                work += file.parts(cancel)
            work += [partial(_fetch_whole, inside, name, shard, most, cancel) for name, most in whole.items()]
            _at_once(work, count)
        (check_rows if rows_only else check_shard)(folder, manifest, entry)
    except MissingObjectError as error:
        raise StoreError(f"{error.strerror}: {_replaced(source)}") from None
    except StoreError as error:
        raise StoreError(
            f"{inside.url} is not the shard that the manifest lists ({error}): {_replaced(source)}"
        ) from None


def _replaced(source: ObjectFolder) -> str:
    return f"{source.url} was replaced or damaged after it was opened; open it again, or push it again"


def _fetch_whole(source: ObjectFolder, name: str, shard: Path, most: int, cancel: threading.Event | None) -> int:
    """Of a file whose size is not known; shard.json may be missing. Returns the bytes."""
    path = shard / name
    try:
        data = source.read(name, 0, most, cancel=cancel)
    except MissingObjectError:
        if name == RECORD:
            return 0
        raise
    with told_of_full_disk(path, len(data)), open(path, "xb") as file:
        file.write(data)
    return len(data)


class _File:
    """A new file of a shard, open; it comes in ranges, so that a large one does not depend on one connection."""

    def __init__(self, source: ObjectFolder, shard: Path, name: str, size: int) -> None:
        self._source, self._path, self._name, self._size = source, shard / name, name, size
        self._descriptor = -1

    def __enter__(self) -> None:
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            with told_of_full_disk(self._path, self._size):
                if self._size:  # a full disk is noticed before anything is fetched
                    os.posix_fallocate(self._descriptor, 0, self._size)
        except BaseException:
            os.close(self._descriptor)
            raise

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def parts(self, cancel: threading.Event | None) -> list[Callable[[], int]]:
        """Functions that fetch a range each, and return its bytes."""
        return [partial(self._fetch, start, cancel) for start in range(0, self._size, RANGE_BYTES)]

    def _fetch(self, start: int, cancel: threading.Event | None) -> int:
        place, stop = start, min(start + RANGE_BYTES, self._size)
        for piece in self._pieces(start, stop, cancel):
            self._write(piece, place)
            place += len(piece)
        return stop - start

    def _pieces(self, start: int, stop: int, cancel: threading.Event | None) -> Iterator[bytes | memoryview]:
        try:
            yield from self._source.pieces(self._name, start, stop, cancel=cancel)
        except MissingObjectError:
            raise
        except StorageError:
            if (found := self._source.state(self._name).size) not in (self._size, -1):
                raise StoreError(f"{self._path.name}: expected {self._size:,} bytes, found {found:,}") from None
            raise

    def _write(self, piece: bytes | memoryview, place: int) -> None:
        with told_of_full_disk(self._path, self._size):
            while piece:
                written = os.pwrite(self._descriptor, piece, place)
                piece, place = piece[written:], place + written


def _at_once(work: list[Callable[[], int]], count: Counter | None) -> None:
    with ThreadPoolExecutor(REQUESTS, "largeds-range") as pool:
        futures = [pool.submit(one) for one in work]
        try:
            for future in futures:
                came = future.result()
                if count is not None:
                    count(came)
        finally:
            for future in futures:
                future.cancel()


@contextmanager
def told_of_full_disk(path: Path, size: int) -> Iterator[None]:
    """Says of a full disk how much was needed."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(error.errno, f"{path}: {error.strerror}") from None
        raise StorageError(
            error.errno, f"the disk is full: {path} needs {size:,} bytes; make room, or keep less on it"
        ) from None
