"""Copies a store from object storage to a local folder."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from largeds_native._internal.objects import ObjectFolder
from largeds_native._internal.progress_bar import ProgressCallback, progress_of
from largeds_native._internal.urls import is_url
from largeds_native.errors import ArgumentError, MissingObjectError, StorageError, StoreError
from largeds_native.store.format.files import atomic_write_bytes, sync, sync_folder
from largeds_native.store.format.manifest import NAME as MANIFEST
from largeds_native.store.format.manifest import Manifest, ShardEntry, read_manifest
from largeds_native.store.jpeg import JpegStore
from largeds_native.store.packed import PackedStore
from largeds_native.store.remote.download import fetch_manifest, fetch_shard
from largeds_native.store.remote.push import Total, each
from largeds_native.store.remote.shard_files import check_shard, shard_bytes
from largeds_native.store.report import NAME as REPORT

MARKER = ".pull.json"  # in the folder of an unfinished pull: which store it is
MAX_REPORT_BYTES = 16 << 20


def pull(
    url: str,
    folder: str | os.PathLike[str],
    *,
    progress: bool | ProgressCallback = True,
) -> PackedStore:
    """Copies a store from object storage: `store = largeds_native.pull("s3://bucket/train.lds", "train.lds")`.

    url: the folder of the store, which holds manifest.json.
    folder: new, or empty, or of the same store, of which the shards that are there and whole are not fetched again: so
        a pull that was interrupted goes on, and one of a finished store mends what is damaged. Each shard is compared
        with its hashes before it gets its name, and the manifest comes last.
    progress: a bar on stderr, if that is a terminal; or a function that is called with (bytes done, all bytes).

    Raises StoreError if there is no store at the URL, or it is damaged, or the folder holds something else;
    StorageError if something can't be read or written.
    """
    if not is_url(url):
        raise ArgumentError(f"url: expected a URL such as s3://bucket/train.lds, found {url!r:.200}")
    source, target = ObjectFolder(url), Path(os.path.abspath(folder))
    manifest, data = fetch_manifest(source)
    with _writable(target, manifest):
        with progress_of(progress, "pulling", of_bytes=True) as shown:
            done = Total(sum(shard_bytes(manifest, entry) for entry in manifest.shards), shown)

            def bring(entry: ShardEntry, cancel: threading.Event) -> None:
                if _is_whole(target, manifest, entry):
                    done.add(shard_bytes(manifest, entry))
                else:
                    _bring(source, manifest, entry, target, cancel, done)

            each(bring, manifest.shards)
        with suppress(MissingObjectError):
            atomic_write_bytes(target / REPORT, source.read(REPORT, 0, MAX_REPORT_BYTES))
        sync(target)
        atomic_write_bytes(target / MANIFEST, data)
    return (JpegStore if manifest.codec == JpegStore.codec else PackedStore)(target)


def _is_whole(target: Path, manifest: Manifest, entry: ShardEntry) -> bool:
    if not (target / entry.name).exists():
        return False
    try:
        check_shard(target, manifest, entry)
    except (StoreError, StorageError):
        return False
    return True


def _bring(
    source: ObjectFolder, manifest: Manifest, entry: ShardEntry, target: Path, cancel: threading.Event, done: Total
) -> None:
    temporary = target / f".{entry.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)  # of a pull that was killed; ours is the only one here
    try:
        fetch_shard(source, manifest, entry, temporary, cancel=cancel, count=done.add)
        sync_folder(temporary / entry.name)
        if (target / entry.name).exists():
            shutil.rmtree(target / entry.name)  # damaged
        (temporary / entry.name).rename(target / entry.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _writable(target: Path, manifest: Manifest) -> Iterator[None]:
    """The folder, made if needed, in which no other pull works meanwhile. Raises StoreError if it holds anything but
    this store, or the beginning of it."""
    try:
        target.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in target.iterdir()}
        if MANIFEST in names:
            found = read_manifest(target).identity
            if found != manifest.identity:
                raise StoreError(f"{target} holds another store ({found}): delete it first, or choose another folder")
        elif names and MARKER not in names:
            raise StoreError(f"{target} holds something else ({min(names)}): expected a new folder, or an empty one")
        marker = open(target / MARKER, "a+")  # noqa: SIM115 - closed below
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(error.errno, f"{target}: {error.strerror}") from None
    with marker:
        _lock(marker.fileno(), target)
        marker.seek(0)
        begun = marker.read()
        if begun and begun != _content(manifest):
            raise StoreError(
                f"{target} holds the beginning of another store, whose pull did not finish: delete it, or choose "
                "another folder"
            )
        marker.truncate(0)
        marker.write(_content(manifest))
        marker.flush()
        yield
        (target / MARKER).unlink(missing_ok=True)


def _content(manifest: Manifest) -> str:
    return json.dumps({"identity": manifest.identity}) + "\n"


def _lock(descriptor: int, target: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StoreError(f"another process is pulling into {target}") from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):  # a file system without locks
            raise
