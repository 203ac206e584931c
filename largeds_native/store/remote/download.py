"""Fetches one shard from object storage into a local folder, and checks it before anybody sees it."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from largeds_native._internal.objects import ObjectFolder
from largeds_native.errors import MissingObjectError, StorageError, StoreError
from largeds_native.store.format.files import sync
from largeds_native.store.format.manifest import MAX_BYTES, Manifest, ShardEntry, manifest_of
from largeds_native.store.format.manifest import NAME as MANIFEST
from largeds_native.store.remote.shard_files import (
    LOG,
    MAX_LOG_BYTES,
    MAX_RECORD_BYTES,
    RECORD,
    check_shard,
    row_files,
)

RANGE_BYTES = 16 << 20  # of one request
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
    record: bool = False,
) -> None:
    """Writes the files of a shard to the new folder `folder / entry.name`, synced, and compares them with their hashes.

    record: also shard.json, which only a pack needs.

    Raises StoreError if they are not what the manifest means: the store was replaced, or is damaged. What was written
    then stays, for the caller to remove.
    """
    shard, inside = folder / entry.name, source.join(entry.name)
    shard.mkdir(parents=True)
    try:
        for name, size in row_files(manifest, entry).items():
            _fetch_file(inside, name, size, shard / name, cancel, count)
        _fetch_whole(inside, LOG, shard / LOG, MAX_LOG_BYTES, cancel, count)
        if record:
            with suppress(MissingObjectError):
                _fetch_whole(inside, RECORD, shard / RECORD, MAX_RECORD_BYTES, cancel, count)
        sync(shard)
        check_shard(folder, manifest, entry)
    except MissingObjectError as error:
        raise StoreError(f"{error.strerror}: {_replaced(source)}") from None
    except StoreError as error:
        raise StoreError(
            f"{inside.url} is not the shard that the manifest lists ({error}): {_replaced(source)}"
        ) from None


def _replaced(source: ObjectFolder) -> str:
    return f"{source.url} was replaced or damaged after it was opened; open it again, or push it again"


def _fetch_whole(
    source: ObjectFolder, name: str, path: Path, most: int, cancel: threading.Event | None, count: Counter | None
) -> None:
    data = source.read(name, 0, most, cancel=cancel)
    with told_of_full_disk(path, len(data)), open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if count is not None:
        count(len(data))


def _fetch_file(
    source: ObjectFolder, name: str, size: int, path: Path, cancel: threading.Event | None, count: Counter | None
) -> None:
    """In ranges, several at once, so that a large file does not depend on one connection."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def fetch(start: int) -> None:
        data = source.read_exactly(name, start, min(start + RANGE_BYTES, size), cancel=cancel)
        with told_of_full_disk(path, size):
            written = 0
            while written < len(data):
                written += os.pwrite(descriptor, data[written:] if written else data, start + written)
        if count is not None:
            count(len(data))

    try:
        with told_of_full_disk(path, size):
            if size:  # a full disk is noticed before anything is fetched
                os.posix_fallocate(descriptor, 0, size)
        try:
            _at_once(fetch, range(0, size, RANGE_BYTES))
        except MissingObjectError:
            raise
        except StorageError:
            if (found := source.state(name).size) not in (size, -1):
                raise StoreError(f"{path.name}: expected {size:,} bytes, found {found:,}") from None
            raise
        with told_of_full_disk(path, size):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _at_once(fetch: Callable[[int], None], starts: range) -> None:
    if len(starts) == 1:
        fetch(0)
        return
    with ThreadPoolExecutor(REQUESTS, "largeds-range") as pool:
        futures = [pool.submit(fetch, start) for start in starts]
        try:
            for future in futures:
                future.result()
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
