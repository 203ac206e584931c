"""The file of a shard that holds its images: images.npy with raw rows, or images.bin with JPEG files."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from largeds_native._internal.arrays import Array
from largeds_native.store.format.files import reserve
from largeds_native.store.format.npy import DATA_OFFSET, file_size, header_bytes, write_array
from largeds_native.store.format.sample_log import JpegRows
from largeds_native.store.metadata import Metadata

BIN = "images.bin"
OFFSETS = "images.offsets.npy"
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
    def finish(self, jpeg: JpegRows | None) -> None:
        """Completes, syncs and closes the file. `jpeg`: its rows, of a JPEG store."""

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class RawImages(ImagesFile):
    def __init__(self, folder: Path, metadata: Metadata) -> None:
        super().__init__()
        self._path, self._metadata = folder / "images.npy", metadata

    @property
    def offset(self) -> int:
        return DATA_OFFSET + self.rows * self._metadata.sample_bytes

    def reserve(self, rows: int) -> None:
        reserve(self._path, DATA_OFFSET + rows * self._metadata.sample_bytes)
        if self._file is None:
            self._file = open(self._path, "r+b", buffering=0)  # noqa: SIM115 - closed by `close`

    def advance(self, rows: int, bytes: int) -> None:
        self.rows += rows

    def finish(self, jpeg: JpegRows | None) -> None:
        shape = self._metadata.images_shape(self.rows)
        try:
            os.ftruncate(self.descriptor, file_size(self._metadata.dtype, shape))
            os.pwrite(self.descriptor, header_bytes(self._metadata.dtype, shape), 0)
            os.fsync(self.descriptor)
        finally:
            self.close()


class JpegImages(ImagesFile):
    """Disk space is not reserved, as the size of a row is known only when it is written; and the file is never mapped
    for writing, so that a full disk is an error of the write."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._bytes = 0

    @property
    def offset(self) -> int:
        return self._bytes

    def reserve(self, rows: int) -> None:
        if self._file is None:
            self._file = open(self._folder / BIN, "x+b", buffering=0)  # noqa: SIM115 - closed by `close`

    def advance(self, rows: int, bytes: int) -> None:
        self.rows += rows
        self._bytes += bytes

    def finish(self, jpeg: JpegRows | None) -> None:
        assert jpeg is not None
        try:
            os.ftruncate(self.descriptor, self._bytes)
            os.fsync(self.descriptor)
        finally:
            self.close()
        write_array(
            self._folder / OFFSETS, np.concatenate([np.zeros(1, np.uint64), np.cumsum(jpeg.bytes, dtype=np.uint64)])
        )
        write_array(self._folder / SIZES, jpeg.size)
        if (jpeg.orientation != 1).any():
            write_array(self._folder / ORIENTATIONS, jpeg.orientation)


def hashed_arrays(jpeg: JpegRows) -> dict[str, Array]:
    """The arrays that describe a shard's rows and are part of its hash. Offsets need not be, as each row has a hash."""
    return {SIZES: jpeg.size, ORIENTATIONS: jpeg.orientation}
