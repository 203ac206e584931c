"""Writes files that get their name only when they are complete."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from largeds_native.errors import ArgumentError, StorageError
from largeds_native.store.format.files import sync

Reserve = Callable[[int], None]  # allocates disk space for this number of further bytes
MARGIN = 1 << 15  # bytes for HDF5's own structures


@contextmanager
def new_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path; it is synced and becomes `path` if the block ends without an exception, else removed."""
    final = Path(path)
    if final.exists():
        raise ArgumentError(f"{final} exists: choose another file or remove it")
    if not final.absolute().parent.is_dir():
        raise ArgumentError(f"{final.absolute().parent} is not a folder: expected where to write {final.name}")
    temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        sync(temporary)
        os.link(temporary, final)  # unlike a rename, fails if the file was created meanwhile
        sync(final.absolute().parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_hdf5_file(path: Path, **options: Any) -> Iterator[tuple[h5py.File, Reserve]]:
    """Yields a new HDF5 file, and a function that allocates disk space for a number of further bytes.

    HDF5 can't close a file whose last bytes it can't write: after a failure the file stays open, and its space
    allocated, until the process ends. So HDF5 must never meet a full disk: call the function before writing."""
    reserve(path, MARGIN)
    with h5py.File(path, "w", **options) as file:

        def reserve_more(size: int) -> None:
            reserve(path, file.id.get_filesize() + size + MARGIN)

        reserve_more(0)
        yield file, reserve_more
        file.flush()
        size = file.id.get_filesize()
    os.truncate(path, size)


def reserve(path: Path, size: int) -> None:
    """Allocates disk space. Use it inside of `storage_errors`, which adds the file name to the error."""
    from largeds_native import _C

    try:
        _C.reserve(str(path), size)
    except StorageError as error:
        reason = str(error).rpartition(": ")[2]
        number = errno.ENOSPC if reason == os.strerror(errno.ENOSPC) else errno.EIO
        raise OSError(number, f"{reason}; {size:,} bytes are needed") from None


@contextmanager
def storage_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Converts errors of HDF5 and of the system during writing to StorageError with a readable message."""
    try:
        yield
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        text = error.strerror or str(error)
        inner = re.search("error message = '([^']+)'", text)  # the message of the system in that of HDF5
        state = os.statvfs(Path(path).absolute().parent)
        free = f"{state.f_bavail * state.f_frsize:,} bytes are free"
        message = f"{path} can't be written: {inner[1] if inner else text[:200]}; {free}"
        raise StorageError(error.errno or errno.EIO, message) from None
