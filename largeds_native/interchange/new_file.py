"""Files that have their name only when they are whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from largeds_native.errors import ArgumentError, StorageError


@contextmanager
def new_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary name beside `path` that becomes it, synced, when the block ends well, and goes away otherwise."""
    final = Path(path)
    if final.exists():
        raise ArgumentError(f"{final} exists: name another file or remove it")
    if not final.absolute().parent.is_dir():
        raise ArgumentError(f"{final.absolute().parent} is not a folder: expected where to write {final.name}")
    temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        _sync(temporary)
        os.link(temporary, final)  # unlike a rename, refuses a file that came to be meanwhile
        _sync(final.absolute().parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def storage_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Errors of HDF5 and the system while writing, as one sentence."""
    try:
        yield
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        free = os.statvfs(Path(path).absolute().parent)
        hint = f"; {free.f_bavail * free.f_frsize:,} bytes are free"
        raise StorageError(
            error.errno or 5, f"{path} can't be written: {error.strerror or str(error)[:200]}{hint}"
        ) from None
