"""Writes files that are either complete or absent: temporary names, reserved space, fsync, rename."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from largeds_native.errors import StorageError


def reserve(path: Path, size: int) -> None:
    """Creates `path` with `size` allocated bytes, so that later writes can't fail because the disk is full."""
    from largeds_native import _C

    try:
        _C.reserve(str(path), size)
    except StorageError as error:
        path.unlink(missing_ok=True)
        free = _free_bytes(path.parent)
        if free is not None and free < size:
            needed = f"{path} needs {size:,} bytes, {free:,} are free"
            raise StorageError(f"the disk is full: {needed}; make room and pack again") from error
        raise


def _free_bytes(folder: Path) -> int | None:
    try:
        state = os.statvfs(folder)
    except OSError:
        return None
    return state.f_bavail * state.f_frsize


def sync(path: Path) -> None:
    """Makes a file's bytes durable, or a folder's entries (creations and renames)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """The same for all files in a folder, and for its entries."""
    for file in path.iterdir():
        sync(file)
    sync(path)


@contextlib.contextmanager
def atomic_write(path: Path, temporary: Path | None = None) -> Iterator[BinaryIO]:
    """A file to write to; it is synced and renamed to `path` if the block ends without an exception. `temporary`: its
    name until then, where other processes may write to `path` at the same time."""
    temporary = temporary or path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def atomic_write_bytes(path: Path, data: bytes, temporary: Path | None = None) -> None:
    with atomic_write(path, temporary) as file:
        file.write(data)
