"""Whether an object has the bytes of a local file."""

from __future__ import annotations

import hashlib
from pathlib import Path

from largeds_native._internal.objects import PART_BYTES, ObjectFolder, ObjectState

READ_BYTES = 16 << 20


def has_bytes_of(folder: ObjectFolder, state: ObjectState, path: Path) -> bool:
    """By the size and the etag, which of most servers is an MD5; where it is not, by reading the object."""
    if state.size != path.stat().st_size:
        return False
    if state.tag == s3_tag(path, parts="-" in state.tag):
        return True
    return _reads_equal(folder, state, path)


def s3_tag(path: Path, parts: bool = False) -> str:
    """The etag that S3 gives an object of these bytes: of its MD5, or of those of its parts."""
    digests = []
    with open(path, "rb") as file:
        while True:
            digest, left = hashlib.md5(usedforsecurity=False), PART_BYTES
            while chunk := file.read(min(1 << 20, left) if parts else 1 << 20):
                digest.update(chunk)
                left -= len(chunk)
                if parts and not left:
                    break
            if not parts:
                return digest.hexdigest()
            if left == PART_BYTES:
                break
            digests.append(digest.digest())
    return f"{hashlib.md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"


def _reads_equal(folder: ObjectFolder, state: ObjectState, path: Path) -> bool:
    with open(path, "rb") as file:
        for start in range(0, state.size, READ_BYTES):
            stop = min(start + READ_BYTES, state.size)
            if folder.read_exactly(state.key, start, stop) != file.read(stop - start):
                return False
    return True
