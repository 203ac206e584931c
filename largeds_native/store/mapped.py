"""A store that maps rows in files of another format."""

from __future__ import annotations

import hashlib
import os
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from largeds_native._internal.arrays import IMAGE_DTYPES, Array, FieldSpec
from largeds_native.errors import ArgumentError, StoreError
from largeds_native.store.base import IMPORT_HINT, RowFile, Store
from largeds_native.store.metadata import Metadata

if TYPE_CHECKING:
    from largeds_native import _C

PACKED_ONLY = ("manifest", "report", "samples", "samples_of", "shards", "verify")  # attributes of PackedStore


class FileState(NamedTuple):
    """What differs between a file and one that was put in its place, or written to later."""

    inode: int
    size: int
    time_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileState:
        return cls(status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class MappedArray:
    """A contiguous array in a file, whose state is that from which the rest is known."""

    path: Path
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    state: FileState

    def check(self) -> None:
        """Raises StoreError unless the file is the one that was opened, and unchanged."""
        size = self.offset + self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))
        found = FileState.of(os.stat(self.path))
        if found.size < size:
            raise StoreError(
                f"{self.path} was truncated after it was opened: expected {size:,} bytes, found {found.size:,}"
            )
        if found != self.state:
            raise StoreError(f"{self.path} was replaced or written to after it was opened: open it again")

    def map(self) -> Array:
        if 0 in self.shape:
            return np.empty(self.shape, self.dtype)
        self.check()
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape)


def _keep(store: MappedArrayStore) -> None:
    """What a finalizer calls that only keeps its argument alive until then."""


class MappedArrayStore(Store):
    """Images and fields in .npy files or an HDF5 file; `largeds_native.open(file)` returns one.

    It was not packed by `pack`, so it has no list of samples, no report, and no hashes to verify.

    images, fields: their location in files; a field that can't be mapped, such as compressed labels, is an array in
        memory.
    metadata: its `fields` are replaced by those of `fields`.
    reopen: (function, arguments) that open the store again, for pickle.
    pictures: which of the fields are pictures of the images.
    """

    def __init__(
        self,
        path: Path,
        metadata: Metadata,
        images: MappedArray,
        fields: Mapping[str, MappedArray | Array],
        reopen: tuple[Any, ...],
        pictures: Mapping[str, FieldSpec] | None = None,
    ) -> None:
        if images.dtype.name not in IMAGE_DTYPES or not images.dtype.isnative:
            expected = ", ".join(IMAGE_DTYPES)
            raise ArgumentError(f"{path}: expected images of {expected}, found {images.dtype}. {IMPORT_HINT}")
        if images.offset % images.dtype.itemsize:
            raise ArgumentError(
                f"{path}: the images begin at byte {images.offset}, which is not aligned to their dtype. {IMPORT_HINT}"
            )
        specs = {name: FieldSpec(values.dtype, tuple(values.shape[1:])) for name, values in fields.items()}
        super().__init__(path, replace(metadata, fields={**specs, **(pictures or {})}, options={"source": path.name}))
        self._contents: dict[str, MappedArray | Array] = {**fields, "images": images}
        self._reopen = reopen
        self._memory_files: dict[str, int] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reopen

    def __getattr__(self, name: str) -> Any:
        """Python calls this only for attributes that do not exist."""
        if name in PACKED_ONLY:
            raise AttributeError(f"{self.path} was not packed by largeds, so it has no {name!r}. {IMPORT_HINT}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __del__(self) -> None:
        for descriptor in self.__dict__.get("_memory_files", {}).values():
            os.close(descriptor)

    @cached_property
    def identity(self) -> str:
        """A hash of the metadata, and of each file's size and modification time instead of its contents."""
        paths = {self.path, *(array.path for array in self._contents.values() if isinstance(array, MappedArray))}
        states = [(path.name, os.stat(path)) for path in sorted(paths)]
        files = [(name, state.st_size, state.st_mtime_ns) for name, state in states]
        text = f"{'; '.join(self.summary())} {self.classes} {files}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def files(self, name: str) -> list[RowFile]:
        values = self._contents[name]
        if isinstance(values, MappedArray):
            values.check()
            return [RowFile(values.path, values.offset, len(self))]
        # values in memory are written to a memory file, which the core can map
        if name not in self._memory_files:
            descriptor = os.memfd_create(f"largeds-{name}", os.MFD_CLOEXEC)
            with open(descriptor, "wb", closefd=False) as file:
                file.write(np.ascontiguousarray(values).tobytes())
            if self._memory_files.setdefault(name, descriptor) != descriptor:  # another thread was faster
                os.close(descriptor)
        return [RowFile(Path(f"/proc/self/fd/{self._memory_files[name]}"), 0, len(self))]

    def keep_readable(self, rows: _C.Rows, name: str, first: int) -> None:
        if name in self._memory_files and len(self):
            # The file is known by its descriptor, which is closed with this store and may then be another file's. So
            # it is mapped now, and the store stays as long as the rows can read by the descriptor.
            rows.will_need([first])
            weakref.finalize(rows, _keep, self).atexit = False

    def _map(self, name: str, part: int) -> Array:
        values = self._contents[name]
        array = values.map() if isinstance(values, MappedArray) else values
        return array.reshape(self._metadata.images_shape(len(self))) if name == "images" else array
