"""The file of a shard that holds its images, or its pictures: images.npy with raw rows, or images.bin with files."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from largeds_native._internal.arrays import Array, FieldSpec
from largeds_native.store.format.files import reserve
from largeds_native.store.format.npy import DATA_OFFSET, file_size, header_bytes, write_array
from largeds_native.store.format.sample_log import JpegRows

SIZES = "images.size.npy"
ORIENTATIONS = "images.orientation.npy"


class ImagesFile(ABC):
    """Rows are written at `offset`, by the caller, and then counted by `advance`."""

    def __init__(self) -> None:
        self.rows = 0
        self._file: Any = None

    @property
    def descriptor(self) -> int:
        return int(self._file.fileno())

    @property
    @abstractmethod
    def offset(self) -> int:
        """The byte at which the next row begins."""

    @abstractmethod
    def reserve(self, rows: int) -> None:
        """Opens the file, and allocates the disk space of this many rows where their size is known."""

    @abstractmethod
    def advance(self, rows: int, bytes: int) -> None: ...

    @abstractmethod
    def finish(self) -> None:
        """Completes, syncs and closes the file."""

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class RawImages(ImagesFile):
    """`spec`: of one row."""

    def __init__(self, path: Path, spec: FieldSpec) -> None:
        super().__init__()
        self._path, self._spec = path, spec
        self._row_bytes = spec.dtype.itemsize * math.prod(spec.shape)

    @property
    def offset(self) -> int:
        return DATA_OFFSET + self.rows * self._row_bytes

    def reserve(self, rows: int) -> None:
        reserve(self._path, DATA_OFFSET + rows * self._row_bytes)
        if self._file is None:
            self._file = open(self._path, "r+b", buffering=0)  # noqa: SIM115 - closed by `close`

    def advance(self, rows: int, bytes: int) -> None:
        self.rows += rows

    def finish(self) -> None:
        dtype, shape = self._spec.dtype, (self.rows, *self._spec.shape)
        try:
            os.ftruncate(self.descriptor, file_size(dtype, shape))
            os.pwrite(self.descriptor, header_bytes(dtype, shape), 0)
            os.fsync(self.descriptor)
        finally:
            self.close()


class EncodedImages(ImagesFile):
    """Rows that are files, of the images or of the pictures `name`.

    Disk space is not reserved, as the size of a row is known only when it is written; and the file is never mapped
    for writing, so that a full disk is an error of the write."""

    def __init__(self, folder: Path, name: str = "images") -> None:
        super().__init__()
        self._folder, self._name = folder, name
        self._bytes = 0

    @property
    def offset(self) -> int:
        return self._bytes

    def reserve(self, rows: int) -> None:
        if self._file is None:
            self._file = open(self._folder / bin_name(self._name), "x+b", buffering=0)  # noqa: SIM115 - closed by `close`

    def advance(self, rows: int, bytes: int) -> None:
        self.rows += rows
        self._bytes += bytes

    def finish(self) -> None:
        try:
            os.ftruncate(self.descriptor, self._bytes)
            os.fsync(self.descriptor)
        finally:
            self.close()

    def write_offsets(self, lengths: Array) -> None:
        """`lengths`: of the rows, in order."""
        offsets = np.concatenate([np.zeros(1, np.uint64), np.cumsum(lengths, dtype=np.uint64)])
        write_array(self._folder / offsets_name(self._name), offsets)

    def write_sizes(self, jpeg: JpegRows) -> None:
        write_array(self._folder / SIZES, jpeg.size)
        if (jpeg.orientation != 1).any():
            write_array(self._folder / ORIENTATIONS, jpeg.orientation)


def bin_name(name: str) -> str:
    """The file of a shard with the files of "images" or of a picture, one after another."""
    return f"{name}.bin"


def offsets_name(name: str) -> str:
    return f"{name}.offsets.npy"


def hashed_arrays(jpeg: JpegRows) -> dict[str, Array]:
    """The arrays that describe a shard's rows and are part of its hash. Offsets need not be, as each row has a hash."""
    return {SIZES: jpeg.size, ORIENTATIONS: jpeg.orientation}
