"""An object in object storage as a file that is read."""

from __future__ import annotations

import io
from functools import cache

from largeds_native._internal.objects import ObjectFolder, ObjectState
from largeds_native._internal.urls import split_query

BLOCK = 1 << 20  # bytes of a request: as many as come in the time of one answer


@cache
def _root(scheme_and_host: str) -> ObjectFolder:
    """One connection for all objects of a bucket or host."""
    return ObjectFolder(f"{scheme_and_host}/")


def object_at(url: str) -> tuple[ObjectFolder, str]:
    """The bucket of an object's URL, or the folder on a host, and the object's name there."""
    base, query = split_query(url)
    if query:  # it belongs to this object alone
        folder, _, name = base.rpartition("/")
        return ObjectFolder(f"{folder}?{query}"), name
    scheme, _, rest = url.partition("://")
    host, _, name = rest.partition("/")
    return _root(f"{scheme.lower()}://{host}"), name


def read_object(url: str, offset: int = 0, length: int = -1) -> bytes:
    """The bytes of an object, or a part of them. Raises MissingObjectError, or StorageError for what can't be read."""
    folder, name = object_at(url)
    return folder.read(name) if length < 0 else folder.read_exactly(name, offset, offset + length)


def state_of(url: str) -> ObjectState:
    folder, name = object_at(url)
    return folder.state(name)


class ObjectFile(io.RawIOBase):
    """For code that reads a file from its start to its end, or here and there: a block at a time."""

    def __init__(self, url: str) -> None:
        self._folder, self._name = object_at(url)
        self.size = self._folder.state(self._name).size
        self._at = 0
        self._block: tuple[int, bytes] = (0, b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        wanted = min(len(view), self.size - self._at)
        if wanted <= 0:
            return 0
        if wanted >= BLOCK:
            data = self._folder.read_exactly(self._name, self._at, self._at + wanted)
        else:
            start, block = self._block
            if not start <= self._at < start + len(block):
                start, block = self._at, self._read_block()
            data = block[self._at - start : self._at - start + wanted]
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _read_block(self) -> bytes:
        block = self._folder.read_exactly(self._name, self._at, min(self._at + BLOCK, self.size))
        self._block = (self._at, block)
        return block
