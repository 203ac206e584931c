"""Copies a store to object storage."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from largeds_native._internal.objects import ObjectFolder, ObjectState
from largeds_native._internal.progress_bar import ProgressCallback, progress_of
from largeds_native._internal.urls import is_url, without_credentials
from largeds_native.errors import ArgumentError, MissingObjectError, StoreError
from largeds_native.store.base import Store
from largeds_native.store.format.manifest import MAX_BYTES, Manifest, ShardEntry, manifest_of, read_manifest
from largeds_native.store.format.manifest import NAME as MANIFEST
from largeds_native.store.packed import as_packed
from largeds_native.store.remote.compare import has_bytes_of
from largeds_native.store.remote.shard_files import LOG, RECORD, check_shard, row_files, shard_bytes
from largeds_native.store.report import NAME as REPORT

IN_FLIGHT = 4  # shards
T = TypeVar("T")


def push(
    store: Store | str | os.PathLike[str],
    url: str,
    *,
    progress: bool | ProgressCallback = True,
) -> None:
    """Copies a packed store to object storage: `largeds_native.push("train.lds", "s3://bucket/train.lds")`.

    store: or its folder. Each shard is compared with its hashes before it is sent, so that damage does not spread.
    url: what is there already with the same bytes is not sent again, so a push that was interrupted goes on; the
        manifest comes last, and before it there is no store.
    progress: a bar on stderr, if that is a terminal; or a function that is called with (bytes done, all bytes).

    Raises StoreError if the store is damaged, or another one is at the URL; StorageError if it can't be written.
    """
    if not is_url(url):
        raise ArgumentError(f"url: expected a URL such as s3://bucket/train.lds, found {url!r:.200}")
    if is_url(store) or (isinstance(store, Store) and store.arriving):
        where = store.location if isinstance(store, Store) else without_credentials(str(store))
        raise ArgumentError(f"store: {where} is in object storage already; pull it first")
    folder = as_packed(store).path if isinstance(store, Store) else Path(store)
    manifest, target = read_manifest(folder), ObjectFolder(url)
    _check_place(target, manifest)
    there = {state.key: state for state in target.list()}
    total = sum(shard_bytes(manifest, entry) for entry in manifest.shards)
    with progress_of(progress, "pushing", of_bytes=True) as shown:
        done = Total(total, shown)

        def send(entry: ShardEntry, cancel: threading.Event) -> None:
            check_shard(folder, manifest, entry)
            files = row_files(manifest, entry)
            for name in (*files, LOG, RECORD):
                if name in files or (folder / entry.name / name).exists():
                    _send(target, there, f"{entry.name}/{name}", folder, cancel)
                done.add(files.get(name, 0))

        each(send, manifest.shards)
    sent = {state.key: state for state in target.list()}
    for entry in manifest.shards:
        for name, size in row_files(manifest, entry).items():
            key = f"{entry.name}/{name}"
            if key not in sent or sent[key].size not in (size, -1):
                raise StoreError(f"{target.url}/{key} is not as it was sent: does another process write there?")
    if (folder / REPORT).exists():
        target.write(REPORT, folder / REPORT)
    target.write(MANIFEST, (folder / MANIFEST).read_bytes())


def _check_place(target: ObjectFolder, manifest: Manifest) -> None:
    """Raises StoreError if another store is there."""
    try:
        data = target.read(MANIFEST, 0, MAX_BYTES + 1)
    except MissingObjectError as error:
        if "there is no bucket" in str(error):
            raise
        return
    identity = "that can't be read"
    with suppress(StoreError):
        identity = manifest_of(data, f"{target.url}/{MANIFEST}").identity
    if identity != manifest.identity:
        raise StoreError(
            f"{target.url} already holds another store ({identity}, and this one is {manifest.identity}): delete it "
            "first, or choose another URL"
        )


def _send(target: ObjectFolder, there: dict[str, ObjectState], key: str, folder: Path, cancel: threading.Event) -> None:
    path = folder / key
    if key in there and has_bytes_of(target, there[key], path):
        return
    target.write(key, path, cancel=cancel)


class Total:
    """Adds up bytes from several threads."""

    def __init__(self, total: int, shown: ProgressCallback) -> None:
        self._done, self._total, self._shown, self._lock = 0, total, shown, threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
            self._shown(min(self._done, self._total), self._total)


def each(work: Callable[[T, threading.Event], None], items: Iterable[T]) -> None:
    """Calls `work` for all items, some at a time. After the first error, or Ctrl-C, nothing more begins, and requests
    that wait give up."""
    cancel = threading.Event()
    with ThreadPoolExecutor(IN_FLIGHT, "largeds-copy") as pool:
        futures = [pool.submit(work, item, cancel) for item in items]
        try:
            for future in futures:
                future.result()
        except BaseException:
            cancel.set()
            for future in futures:
                future.cancel()
            raise
