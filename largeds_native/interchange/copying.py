"""Reads rows of a store through file descriptors instead of mappings, so that resident memory does not grow; or decodes
them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from largeds_native._internal.arrays import Array
from largeds_native.errors import StorageError
from largeds_native.store.gather import gather_pictures
from largeds_native.transform import ImageTransform

if TYPE_CHECKING:
    from largeds_native.store import Store

VECTORS = 1024  # largest number of buffers for one preadv (IOV_MAX)


class RowReader:
    """Reads the images of a store by row number; here, a row is one image with all its variants."""

    def __init__(self, store: Store) -> None:
        self._descriptors: dict[int, int] = {}
        self.layout = store.layout
        self.shape, self._dtype = tuple(store.images.shape[1:]), store.dtype
        self.row_bytes = self._dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))
        self._files = store.files("images")
        self._starts = np.cumsum([0, *(file.rows for file in self._files)])

    def __del__(self) -> None:
        for descriptor in self._descriptors.values():
            with suppress(OSError):
                os.close(descriptor)

    def _descriptor(self, shard: int) -> int:
        if shard not in self._descriptors:
            self._descriptors[shard] = os.open(self._files[shard].path, os.O_RDONLY)
        return self._descriptors[shard]

    def ranges(self, first: int, count: int) -> Iterator[tuple[int, int, int]]:
        """(descriptor, offset, length) of the byte ranges that hold rows [first, first + count), in order."""
        while count > 0:
            shard = int(np.searchsorted(self._starts, first, "right")) - 1
            n = min(count, int(self._starts[shard + 1]) - first)
            byte = self._files[shard].offset + (first - int(self._starts[shard])) * self.row_bytes
            yield self._descriptor(shard), byte, n * self.row_bytes
            first, count = first + n, count - n

    def empty(self, rows: int) -> Array:
        """An uninitialised array for `rows` rows."""
        return np.empty((rows, *self.shape), self._dtype)

    def read(self, rows: Array, out: Array | None = None) -> Array:
        """(len(rows), *row shape), in the order of `rows`, in `out` if given; adjacent rows are read at once."""
        out = self.empty(len(rows)) if out is None else out
        view = out.reshape(-1).view(np.uint8).data if out.size else memoryview(b"")
        done = 0
        for run in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
            if not len(run):
                continue
            for descriptor, byte, length in self.ranges(int(run[0]), len(run)):
                read_into(descriptor, byte, view[done : done + length])
                done += length
        return out


class DecodedReader:
    """As `RowReader`, for images that are decoded, resized (the shorter side, or (height, width)) or cropped."""

    def __init__(self, store: Store, resize: Any, crop: Any) -> None:
        self.layout, self._dtype = store.layout, store.dtype
        self._gather = partial(store.gather, resize=resize, crop=crop, channels_last=store.layout == "HWC")
        channels, height, width = self._gather([]).shape[1:]
        self.shape = (channels, height, width) if self.layout == "CHW" else (height, width, channels)
        self.row_bytes = self._dtype.itemsize * channels * height * width

    def empty(self, rows: int) -> Array:
        """An uninitialised array for `rows` rows."""
        return np.empty((rows, *self.shape), self._dtype)

    def read(self, rows: Array, out: Array | None = None) -> Array:
        """(len(rows), *row shape), in the order of `rows`, in `out` if given."""
        import torch

        out = self.empty(len(rows)) if out is None else out[: len(rows)]
        batch = torch.from_numpy(out)
        self._gather(rows, batch if self.layout == "CHW" else batch.permute(0, 3, 1, 2))
        return out


class PictureReader:
    """The pictures of a store as an array that is read by row numbers; decoded, resized or cropped if needed."""

    def __init__(self, store: Store, name: str, resize: Any, crop: Any) -> None:
        transform = ImageTransform(**{k: v for k, v in (("resize", resize), ("crop", crop)) if v is not None})
        plain = resize is None and crop is None
        self._store, self._name = store, name
        self._sizes = (None, None) if plain else (transform.resize, transform.crop)
        self.dtype = store.metadata.pictures[name].dtype
        self.shape = (len(store), *self[np.zeros(0, np.int64)].shape[1:])

    def __getitem__(self, rows: Array) -> Array:
        if self._sizes == (None, None) and self._store.metadata.codec == "raw":
            return np.asarray(self._store[self._name][rows])
        return gather_pictures(self._store, self._name, rows, *self._sizes)


def read_into(descriptor: int, offset: int, view: memoryview) -> None:
    """Fills `view` from the file; raises StorageError if the file is too short."""
    while view:
        n = os.preadv(descriptor, [view], offset)
        if n == 0:
            raise StorageError(errno.EIO, f"a file was truncated while it was read: byte {offset:,} is past its end")
        view, offset = view[n:], offset + n


def scatter(descriptor: int, offset: int, views: list[memoryview]) -> None:
    """Fills `views`, one after the other, from the bytes of the file at `offset`."""
    for low in range(0, len(views), VECTORS):
        part = views[low : low + VECTORS]
        done = os.preadv(descriptor, part, offset)
        for view in part:  # preadv may read less than requested: the rest is read separately
            if done < len(view):
                read_into(descriptor, offset + done, view[done:])
            offset, done = offset + len(view), max(0, done - len(view))


def copy_range(source: int, start: int, target: int, offset: int, length: int) -> None:
    """Copies bytes between two files in the kernel, or through memory if the file systems don't support that."""
    while length:
        try:
            n = os.copy_file_range(source, target, length, start, offset)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
                raise
            block = os.pread(source, min(length, 8 << 20), start)
            n = os.pwrite(target, block, offset) if block else 0
        if n == 0:
            raise StorageError(errno.EIO, f"a file was truncated while it was copied: byte {start:,} is past its end")
        start, offset, length = start + n, offset + n, length - n
