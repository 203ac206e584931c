"""The interface of sources."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from largeds_native._internal.arrays import Array, FieldSpec, ValueSpec
from largeds_native._internal.object_file import read_object
from largeds_native._internal.urls import is_url


@dataclass(frozen=True)
class FailedItem:
    """Stands for an image that the source could not give: a word for the reason, and a sentence."""

    reason: str
    message: str
    cause: BaseException | None = None


# A path or the URL of an object, encoded bytes, a part of a file or of an object (path, offset, length), an array
# (H, W, C), or what is there instead. The options of the pack say what becomes of numbers that are not uint8, and of
# other than 1 or 3 channels.
Item = str | bytes | tuple[str, int, int] | Array | FailedItem
Indices = np.ndarray[Any, np.dtype[np.int64]]
LABEL = FieldSpec(np.dtype("<i8"))
STATES = 1 << 16  # paths that are held at once


@dataclass
class SourceBatch:
    """Consecutive samples: the items to decode, their names, the values of their fields, and the items of their masks
    and other pictures.

    A picture is what an image is: a path, bytes, a part of a file, an array (H, W, C), of a mask (H, W) of integers, or
    a FailedItem.
    """

    items: list[Item]
    names: list[str]
    fields: dict[str, Array] = field(default_factory=dict)
    pictures: dict[str, list[Item]] = field(default_factory=dict)


class Source(ABC):
    """Samples in a fixed order.

    `classes`: the class names by label number. `fields`: the fields of every sample. `description`: where the images
    come from, in a few words. `root`: the folder to which names are relative, if there is one. `walked`: the folder
    that was searched for images, with all below it. `notes`: sentences for the report, on what was used for the label
    and what was left out.
    """

    classes: tuple[str, ...] = ()
    description: str = ""
    root: str | None = None
    walked: str | None = None
    notes: tuple[str, ...] = ()
    image_size: tuple[int, int] | None = None  # (height, width) of every image, where the source knows it
    values: ValueSpec | None = None  # where images are arrays, of these or of the first one; None: they are files
    is_remote = False  # whether items are URLs of object storage
    keeps_values = False  # whether a pack keeps arrays as they are, unless it is told otherwise

    def _describe_as(self, source: Source) -> None:
        """For a source whose samples are those of another one, in another order or with something added."""
        self.classes, self.description, self.root = source.classes, source.description, source.root
        self.notes, self.image_size, self.walked = source.notes, source.image_size, source.walked
        self.values, self.keeps_values, self.is_remote = source.values, source.keeps_values, source.is_remote

    @property
    @abstractmethod
    def fields(self) -> dict[str, FieldSpec]: ...

    @property
    def pictures(self) -> dict[str, FieldSpec]:
        """The pictures of every sample, by the names of their fields."""
        return {}

    @property
    @abstractmethod
    def count(self) -> int | None:
        """Number of samples; None if it is known only at the end."""

    @abstractmethod
    def read(self, start: int, stop: int) -> Iterator[SourceBatch]:
        """Samples [start, stop) in batches; fewer if `count` is None and the source ends earlier."""

    @abstractmethod
    def fingerprint(self) -> str | None:
        """Changes whenever the samples change; contents of files are not read. None if that can't be known: such a
        source is never taken for one that was packed before, unless the user names it with `pack(..., key="...")`."""

    def changed_since(self, start: int, stop: int, time_ns: int) -> list[str]:
        """Names of the samples in [start, stop) whose files are known to have changed after `time_ns`."""
        return []

    def files_state(self) -> str:
        """A digest of the paths, sizes, times and inodes of all files that hold samples; contents are not read. Empty
        for a source without files."""
        return ""


class IndexedSource(Source):
    """A source whose samples can be read in any order."""

    batch = 1 << 16  # number of samples per call of `take`

    @property
    @abstractmethod
    def count(self) -> int: ...

    @abstractmethod
    def take(self, indices: Indices) -> SourceBatch:
        """These samples."""

    def paths(self, indices: Indices) -> list[tuple[str, str]]:
        """(name, path of the file that holds it) of these samples; empty if they are not in files."""
        return []

    def part(self, start: int, stop: int) -> IndexedSource:
        """The same source, in which only the samples [start, stop) can be read, to be sent to another process: where
        samples are files, it has the names of these alone."""
        items = self.take(np.arange(start, start + 1))
        if all(isinstance(one[0], (str, tuple, FailedItem)) for one in (items.items, *items.pictures.values())):
            return _ListedSource(self, start, stop)
        return self

    def read(self, start: int, stop: int) -> Iterator[SourceBatch]:
        for low in range(start, stop, self.batch):
            yield self.take(np.arange(low, min(low + self.batch, stop)))

    def changed_since(self, start: int, stop: int, time_ns: int) -> list[str]:
        return changed(self.paths(np.arange(start, stop)), time_ns)

    def files_state(self) -> str:
        digest, last, found = hashlib.sha256(), "", False
        for low in range(0, self.count, STATES):
            for _, path in self.paths(np.arange(low, min(low + STATES, self.count))):
                if path != last:  # a tar file holds many samples
                    digest.update(_state(path))
                    last, found = path, True
        return digest.hexdigest() if found else ""


class ShuffledSource(IndexedSource):
    """The samples of a source in an order drawn from a seed."""

    def __init__(self, source: IndexedSource, seed: int) -> None:
        self._source = source
        self._order = np.random.Generator(np.random.Philox(seed)).permutation(source.count)
        self._describe_as(source)
        self.batch = source.batch

    @property
    def fields(self) -> dict[str, FieldSpec]:
        return self._source.fields

    @property
    def count(self) -> int:
        return self._source.count

    @property
    def pictures(self) -> dict[str, FieldSpec]:
        return self._source.pictures

    def take(self, indices: Indices) -> SourceBatch:
        return self._source.take(self._order[indices])

    def paths(self, indices: Indices) -> list[tuple[str, str]]:
        return self._source.paths(self._order[indices])

    def fingerprint(self) -> str | None:
        inner = self._source.fingerprint()
        return None if inner is None else hashlib.sha256(inner.encode() + self._order.tobytes()).hexdigest()

    def files_state(self) -> str:
        return self._source.files_state()


class _ListedSource(IndexedSource):
    """The samples [start, stop) of a source of files, by their names."""

    def __init__(self, source: IndexedSource, start: int, stop: int) -> None:
        self._start, self._count = start, source.count
        self._fields, self._pictures = source.fields, source.pictures
        self._listed = source.take(np.arange(start, stop))
        self._describe_as(source)
        self.batch = source.batch

    @property
    def fields(self) -> dict[str, FieldSpec]:
        return self._fields

    @property
    def count(self) -> int:
        return self._count

    @property
    def pictures(self) -> dict[str, FieldSpec]:
        return self._pictures

    def take(self, indices: Indices) -> SourceBatch:
        chosen, listed = (indices - self._start).tolist(), self._listed
        return SourceBatch(
            [listed.items[i] for i in chosen],
            [listed.names[i] for i in chosen],
            {name: values[chosen] for name, values in listed.fields.items()},
            {name: [items[i] for i in chosen] for name, items in listed.pictures.items()},
        )

    def fingerprint(self) -> None:
        return None  # the plan has that of the whole source


def read_bytes(item: Any) -> bytes:
    """The bytes of an encoded image: a path, a URL, bytes, or a part of a file (path, offset, length)."""
    if isinstance(item, bytes):
        return item
    path, offset, length = (item, 0, -1) if isinstance(item, str) else item
    if is_url(path):
        return read_object(path, offset, length)
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(length)


def changed(files: list[tuple[str, str]], time_ns: int) -> list[str]:
    """Names of the files that changed after `time_ns`. A deleted file does not count: its shard is packed already."""
    found = []
    times: dict[str, int] = {}
    for name, path in files:
        if path not in times:
            try:
                times[path] = os.stat(path).st_ctime_ns
            except OSError:
                times[path] = 0
        if times[path] > time_ns:
            found.append(name)
    return found


def _state(path: str) -> bytes:
    """What is equal as long as nobody wrote to the file or put another in its place. A link counts as its target."""
    try:
        state = os.stat(path)
        told: Any = (state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)
    except (OSError, ValueError):
        told = None
    return f"{path!r} {told}\n".encode("utf-8", "surrogateescape")
