"""Object storage, through fsspec: the one place that touches it.

s3fs reads s3:// here, since it is the well-kept standard, reads every setting of boto (profiles, ~/.aws, roles), and
works in forked workers. obstore's wrapper for fsspec read large objects from a server on the same machine 1.7 times as
fast, and small ones 2 to 3 times; but its runtime does not survive a fork, as DataLoader's workers are, and it knows no
profiles. Who wants it registers it with fsspec, and it is used here.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from largeds_native._internal.direct_reads import DirectReads
from largeds_native._internal.retries import Cancelled as Cancelled
from largeds_native._internal.retries import CutTransfer, retried
from largeds_native._internal.urls import join, scheme_of, without_credentials
from largeds_native.errors import ArgumentError, MissingObjectError, StorageError

PACKAGES = {  # scheme -> what `pip install` installs
    "s3": "'largeds-native[s3]'",
    "s3a": "'largeds-native[s3]'",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "hf": "huggingface_hub",
    "http": "'largeds-native[remote]' aiohttp",
    "https": "'largeds-native[remote]' aiohttp",
}
PART_BYTES = 50 << 20  # of an object that is written in parts
SIGNED_SECONDS = 900  # a range begins within it


@dataclass(frozen=True)
class ObjectState:
    """What tells an object from another one under the same key: its size in bytes (-1: the server does not tell), and
    its etag, version or time of change, whichever the server has ("" for none)."""

    key: str
    size: int
    tag: str


class ObjectFolder:
    """The objects below a URL, such as s3://bucket/train/. Making one sends no request.

    Used from any number of threads, pickled, and in forked children, each of which opens a connection of its own.
    Credentials and endpoints are fsspec's business: its configuration, and the environment. What fails for a moment
    (timeouts, 5xx and "slow down", transfers that were cut off) is tried again, with growing pauses, for half a minute
    to a minute; `stop`, an event, ends a pause early with `Cancelled`.

    Raises MissingObjectError for what is not there, StorageError for what can't be read or written, and ArgumentError
    for a scheme whose package is not installed.
    """

    def __init__(self, url: str) -> None:
        if "::" in url:
            raise ArgumentError(f"{without_credentials(url)}: chained URLs are not read: expected s3://bucket/folder")
        scheme, mark, rest = url.partition("://")
        url = scheme.lower() + mark + rest
        self._url = url.rstrip("/") if rest else url
        self._connection = _Connection(url)

    @property
    def url(self) -> str:
        """Without user, password and query: for messages, stores and logs."""
        return without_credentials(self._url)

    def __repr__(self) -> str:
        return f"ObjectFolder({self.url!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (ObjectFolder, (self._url,))

    def join(self, name: str) -> ObjectFolder:
        """The folder of this name in it."""
        folder = ObjectFolder(join(self._url, name))
        folder._connection = self._connection
        return folder

    # ---- reading ---------------------------------------------------------------------------------------------------
    def read(
        self, name: str, start: int | None = None, stop: int | None = None, *, cancel: threading.Event | None = None
    ) -> bytes:
        """The bytes of an object, or its bytes [start, stop) (as many of them as it has)."""

        def once() -> bytes:
            found: bytes = self._files.cat_file(self._path(name), start=start, end=stop)
            return found

        if start is None and stop is None and (direct := self._connection.direct()) is not None:
            if cancel is not None and cancel.is_set():
                raise Cancelled
            if (whole := direct.whole(self._path(name))) is not None:
                return whole
        return retried(once, self._named(name), cancel)

    def read_exactly(self, name: str, start: int, stop: int, *, cancel: threading.Event | None = None) -> bytes:
        """The bytes [start, stop) of an object that has them. Fewer are a transfer that was cut off."""

        def once() -> bytes:
            found: bytes = self._files.cat_file(self._path(name), start=start, end=stop)
            if len(found) > stop - start:
                raise StorageError(
                    errno.EOPNOTSUPP,
                    f"{self._named(name)}: the server gives whole objects only, and a part was asked for (HTTP "
                    "Range): download it first",
                )
            if len(found) < stop - start:
                raise CutTransfer(f"expected {stop - start:,} bytes from byte {start:,} on, found {len(found):,}")
            return found

        return retried(once, self._named(name), cancel) if stop > start else b""

    def pieces(
        self, name: str, start: int, stop: int, *, cancel: threading.Event | None = None
    ) -> Iterator[bytes | memoryview]:
        """The bytes [start, stop) of an object that has them, as they come; a piece is valid until the next one is
        asked for. By HTTP itself, where that is possible."""
        place, direct = start, self._connection.direct()
        for piece in direct.pieces(self._path(name), start, stop) if direct is not None else ():
            if cancel is not None and cancel.is_set():
                raise Cancelled
            place += len(piece)
            yield piece
        if place < stop:
            yield self.read_exactly(name, place, stop, cancel=cancel)

    def state(self, name: str) -> ObjectState:
        """One request. Raises MissingObjectError."""

        def once() -> dict[str, Any]:
            found: dict[str, Any] = self._files.info(self._path(name))
            return found

        return _state(name, retried(once, self._named(name)))

    def exists(self, name: str) -> bool:
        try:
            self.state(name)
        except MissingObjectError:
            return False
        return True

    def list(self) -> Iterator[ObjectState]:
        """All objects below this URL, by one listing; keys are relative to it, sorted. A URL that names nothing has
        none; a bucket that does not exist is an error."""

        def once() -> dict[str, Any]:
            try:
                found: dict[str, Any] = self._files.find(self._path(""), detail=True)
            except FileNotFoundError:
                self._files.ls(self._bucket)  # raises FileNotFoundError if there is no bucket
                return {}
            if not found and "/" not in self._path("").strip("/"):
                self._files.ls(self._path(""))
            return found

        found = retried(once, self.url)
        root = self._path("").rstrip("/") + "/"
        for path in sorted(found):
            if found[path].get("type", "file") == "file" and path.startswith(root):
                yield _state(path[len(root) :], found[path])

    def children(self) -> tuple[Sequence[ObjectState], Sequence[str]]:
        """The objects directly in this folder, and the names of the folders in it, sorted. Raises MissingObjectError
        for a bucket that does not exist, or a URL below which there is nothing."""

        def once() -> Sequence[dict[str, Any]]:
            found: Sequence[dict[str, Any]] = self._files.ls(self._path(""), detail=True)
            return found

        root = self._path("").rstrip("/") + "/"
        objects, folders = [], []
        for info in retried(once, self.url):
            name = str(info["name"]).rstrip("/").removeprefix(root)
            if info.get("type") == "directory":
                folders.append(name)
            elif name and "/" not in name:
                objects.append(_state(name, info))
        return sorted(objects, key=lambda one: one.key), sorted(folders)

    # ---- writing ---------------------------------------------------------------------------------------------------
    def write(self, name: str, data: bytes | Path, *, cancel: threading.Event | None = None) -> None:
        """Writes an object: these bytes, or those of a local file, in parts where they are many. An object is there
        as a whole or not at all."""

        def once() -> None:
            path = self._path(name)
            if scheme_of(self._url) in ("memory", "local"):
                self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
            if isinstance(data, bytes):
                self._files.pipe_file(path, data)
            elif scheme_of(self._url) in ("s3", "s3a"):
                self._files.put_file(str(data), path, chunksize=PART_BYTES)
            else:
                self._files.put_file(str(data), path)

        retried(once, self._named(name), cancel)

    def delete(self, name: str) -> None:
        retried(lambda: self._files.rm_file(self._path(name)), self._named(name))

    # ---- fsspec ----------------------------------------------------------------------------------------------------
    @property
    def _files(self) -> Any:
        return self._connection.files()

    def _path(self, name: str) -> str:
        """As fsspec names it in its file system."""
        path: Any = self._files._strip_protocol(join(self._url, name))
        return str(path)

    @property
    def _bucket(self) -> str:
        return self._path("").strip("/").split("/")[0]

    def _named(self, name: str) -> str:
        return without_credentials(join(self._url, name))


class _Connection:
    """fsspec's file system of a URL, of this process alone: after a fork, its event loop is the parent's."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._opened: tuple[int, Any, DirectReads | None] | None = None  # (process, file system, reads past it)

    def files(self) -> Any:
        return self._open()[1]

    def direct(self) -> DirectReads | None:
        return self._open()[2]

    def _open(self) -> tuple[int, Any, DirectReads | None]:
        opened = self._opened
        if opened is None or opened[0] != os.getpid():
            with _opening:
                opened = self._opened
                if opened is None or opened[0] != os.getpid():  # else another thread has opened it meanwhile
                    if opened is not None:
                        _inherited.append(opened)
                    files = _file_system(self._url)
                    opened = self._opened = (os.getpid(), files, _direct_reads(files, self._url))
        return opened


# what a forked child has of its parent: deleted there, its event loop would take the parent's descriptors along
_inherited: list[Any] = []


# one thread of a process opens a file system at a time, which takes a tenth of a second
_opening = threading.Lock()


def _after_fork() -> None:
    """Another thread of the parent may have held it."""
    global _opening
    _opening = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


class _Signer:
    """Makes URLs of S3 that anybody may read for a while, without a request. It has a file system and an event loop of
    its own, run by the thread that asks: the loop that all file systems share would be asked for each small object."""

    def __init__(self, url: str) -> None:
        self._url, self._lock = url, threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def __call__(self, path: str) -> str:
        """ "" in a thread in which another event loop runs, as the main one of a notebook."""
        with suppress(RuntimeError):
            asyncio.get_running_loop()
            return ""
        with self._lock:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                weakref.finalize(self, _close, loop, os.getpid())
                self._files = _file_system(self._url, loop)
                # In its oldest regions, boto signs in an old way, by which objects that KMS encrypts can't be read. The
                # new one is not always asked for, since directory buckets have a way of their own
                if "AWSAccessKeyId=" in loop.run_until_complete(self._files._url(path)):
                    self._files = _file_system(self._url, loop, signature_version="s3v4")
                self._loop = loop
            signed: str = self._loop.run_until_complete(self._files._url(path, expires=SIGNED_SECONDS))
            return signed


def _close(loop: asyncio.AbstractEventLoop, process: int) -> None:
    if process == os.getpid():
        loop.close()


def _direct_reads(files: Any, url: str) -> DirectReads | None:
    """None where fsspec was told to use another implementation, or what HTTP itself does not know of."""
    kind = f"{type(files).__module__}.{type(files).__name__}"
    if scheme_of(url) in ("s3", "s3a") and kind == "s3fs.core.S3FileSystem":
        return DirectReads(_Signer(url))
    if scheme_of(url) in ("http", "https") and kind == "fsspec.implementations.http.HTTPFileSystem":
        return None if files.kwargs or files.client_kwargs else DirectReads(str)
    return None


def _state(key: str, info: dict[str, Any]) -> ObjectState:
    tag = next((info[name] for name in ("VersionId", "ETag", "etag") if info.get(name)), None)
    if tag is None:
        names = ("generation", "LastModified", "mtime", "updated", "modified", "created")
        tag = next((info[name] for name in names if info.get(name)), "")
    size = info.get("size")
    return ObjectState(key, -1 if size is None else int(size), str(tag).strip('"'))


def _file_system(url: str, loop: asyncio.AbstractEventLoop | None = None, **config: str) -> Any:
    """loop: in which its coroutines are to run, for one that is used by them. config: of botocore."""
    scheme = scheme_of(url)
    try:
        from fsspec.core import url_to_fs
    except ModuleNotFoundError:
        raise ArgumentError(
            f"{without_credentials(url)}: object storage is read by fsspec, which is not installed. "
            f"Type: pip install {PACKAGES.get(scheme, repr('largeds-native[remote]'))}"
        ) from None
    # a listing must be of now; and an instance of its own has the environment of now
    options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
    if loop is not None:
        options |= {"asynchronous": True, "loop": loop}
    if scheme in ("s3", "s3a"):  # it is tried again here, and not three times three times
        options["config_kwargs"] = {"retries": {"max_attempts": 0}, "max_pool_connections": 64, **config}
    try:
        files, _ = url_to_fs(url, **options)
    except ImportError as error:
        wanted = PACKAGES.get(scheme, f"what fsspec needs for {scheme}://")
        reason = "" if scheme in PACKAGES else f" ({str(error)[:200]})"
        raise ArgumentError(
            f"{without_credentials(url)}: the package for {scheme}:// is not installed{reason}. "
            f"Type: pip install {wanted}"
        ) from None
    except ValueError as error:
        known = "Protocol not known" in str(error)
        what = f"fsspec knows no {scheme}://" if known else without_credentials(str(error))[:200]
        raise ArgumentError(
            f"{without_credentials(url)}: {what}; expected a URL such as s3://bucket/folder, or a path"
        ) from None
    if "retries" in dir(files):
        files.retries = 1
    return files
