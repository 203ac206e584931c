"""Drops files from the page cache, so that the next read comes from the disk."""

from __future__ import annotations

import os
from collections.abc import Iterable

Range = tuple[str, int, int]  # path, offset, bytes


def drop_files(paths: Iterable[str | os.PathLike[str]]) -> None:
    """Write these files back and drop them from the page cache."""
    drop_ranges((os.fspath(path), 0, 0) for path in paths)


def drop_ranges(ranges: Iterable[Range]) -> None:
    """Drop only these ranges of files; a length of 0 reaches to the end of the file."""
    for path, offset, size in ranges:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fdatasync(descriptor)  # the kernel can't drop dirty pages
            os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
