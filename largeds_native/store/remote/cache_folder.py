"""The folder on a local disk that keeps the shards of one store in object storage, for all processes of the machine.

    <cache>/<identity>/.largeds-cache             says that the folder is ours: nothing is deleted where it is missing
    <cache>/<identity>/.space.lock                held while room is made
    <cache>/<identity>/shard-00000/               a shard, whole and checked
    <cache>/<identity>/.shard-00000.lock          shared while it is used, exclusive while it is fetched or deleted; it
                                                  names the boot of the machine in which the shard was checked
    <cache>/<identity>/.shard-00000.1234.tmp/     being fetched, of 1,234 bytes; or being deleted

Nothing is synced: a shard of which a power failure left half is noticed when it is checked again, as each one is once
after a boot. Where the cache is smaller than the store, most shards are deleted before they have reached the disk.

Locks are flock's, which the kernel ends with their process, also at SIGKILL. So a temporary folder whose lock is free
is left from a process that was killed. Locks are released explicitly, not by closing: a forked child has the same lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from largeds_native.errors import StorageError, StoreError

MARKER = ".largeds-cache"
SPACE_LOCK = ".space.lock"
_SHARD = re.compile(r"shard-[0-9]{5,9}")
_TEMPORARY = re.compile(r"\.(shard-[0-9]{5,9})\.([0-9]{1,18})\.tmp")


def _boot() -> str:
    """Names the time since this machine started; where the system does not tell, this process."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return str(uuid.uuid4())


BOOT = _boot()


class Lock:
    """A lock file, open. Nothing is held at first."""

    _descriptor = -1

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._process = os.getpid()

    def try_exclusive(self) -> bool:
        return self._try(fcntl.LOCK_EX)

    def try_shared(self) -> bool:
        return self._try(fcntl.LOCK_SH)

    def _try(self, kind: int) -> bool:
        try:
            fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    @property
    def is_checked(self) -> bool:
        """Whether the shard was checked since the machine started."""
        return os.pread(self._descriptor, 100, 0) == BOOT.encode()

    def set_checked(self) -> None:
        with suppress(OSError):  # the disk is full: the next process checks it again
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, BOOT.encode(), 0)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        if self._descriptor < 0:
            return
        if self._process == os.getpid():  # a forked child must not end the lock of its parent
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)
        self._descriptor = -1


class CacheFolder:
    """Makes the folder. StorageError if it can't be written, StoreError if it is not ours."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._bytes: dict[str, int] = {}  # of whole shards, which never change
        try:
            path.mkdir(parents=True, exist_ok=True)
            if not (path / MARKER).exists():
                if other := next((name for name in os.listdir(path) if name != MARKER), None):
                    raise StoreError(
                        f"cache: {path} holds something else ({other}): expected a folder of its own for the cache"
                    )
                (path / MARKER).touch()
            descriptor = os.open(path / SPACE_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            os.close(descriptor)
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            reason = "is not writable" if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) else "can't be used"
            raise StorageError(error.errno, f"cache: {path} {reason}: {error.strerror}") from None

    def lock(self, shard: str) -> Lock:
        try:
            return Lock(self.path / f".{shard}.lock")
        except OSError as error:
            raise StorageError(error.errno, f"cache: {self.path}: {error.strerror}") from None

    def has(self, shard: str) -> bool:
        return (self.path / shard).is_dir()

    @contextmanager
    def space(self) -> Iterator[None]:
        """While room is made, no other process makes room. It is held for moments, without a request."""
        descriptor = os.open(self.path / SPACE_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    # ---- contents, to be called with `space` held -------------------------------------------------------------------
    def used(self) -> int:
        """Bytes of all shards, and of those that are being fetched. Removes what killed processes left."""
        total = 0
        for name in os.listdir(self.path):
            if _SHARD.fullmatch(name):
                total += self.bytes_of(name)
            elif found := _TEMPORARY.fullmatch(name):
                total += 0 if self._is_left(found[1], name) else int(found[2])
        return total

    def _is_left(self, shard: str, name: str) -> bool:
        lock = self.lock(shard)
        try:
            if not lock.try_exclusive():
                return False
            shutil.rmtree(self.path / name, ignore_errors=True)
            return True
        finally:
            lock.close()

    def bytes_of(self, shard: str) -> int:
        if shard not in self._bytes:
            try:
                with os.scandir(self.path / shard) as entries:
                    self._bytes[shard] = sum(entry.stat().st_size for entry in entries)
            except FileNotFoundError:  # deleted meanwhile
                return 0
        return self._bytes[shard]

    def shards(self) -> list[str]:
        return [name for name in os.listdir(self.path) if _SHARD.fullmatch(name)]

    def last_used(self, shard: str) -> float:
        """When a process last began or ended to use it."""
        try:
            return os.stat(self.path / f".{shard}.lock").st_mtime
        except OSError:
            return 0.0

    def touch(self, shard: str) -> None:
        with suppress(OSError):
            os.utime(self.path / f".{shard}.lock")

    def delete(self, shard: str) -> bool:
        """False if a process uses it."""
        lock = self.lock(shard)
        try:
            if not lock.try_exclusive():
                return False
            self.remove(shard)
            return True
        finally:
            lock.close()

    # ---- of a shard whose lock is held exclusively ------------------------------------------------------------------
    def remove(self, shard: str) -> None:
        gone = self.path / f".{shard}.0.tmp"
        shutil.rmtree(gone, ignore_errors=True)
        with suppress(FileNotFoundError):
            (self.path / shard).rename(gone)  # so that half of a shard never has its name
        shutil.rmtree(gone, ignore_errors=True)
        self._bytes.pop(shard, None)

    def temporary(self, shard: str, size: int) -> Path:
        """A new empty folder, which counts as `size` bytes."""
        path = self.path / f".{shard}.{size}.tmp"
        try:
            path.mkdir()
        except OSError as error:
            raise StorageError(error.errno, f"cache: {path}: {error.strerror}") from None
        return path

    def remove_left(self, shard: str) -> None:
        """What a killed process left of it."""
        for name in os.listdir(self.path):
            if (found := _TEMPORARY.fullmatch(name)) and found[1] == shard:
                shutil.rmtree(self.path / name, ignore_errors=True)
