"""A torch Dataset for those who stay with HDF5."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch.utils.data import Dataset

from largeds_native.errors import RowIndexError
from largeds_native.interchange.copying import read_into
from largeds_native.interchange.hdf5_file import (
    IMAGES,
    LABELS,
    check_fields,
    dataset,
    field_values,
    image_spec,
    reading,
)
from largeds_native.interchange.hdf5_import import unreadable

Array = np.ndarray[Any, np.dtype[Any]]
Item = tuple[Any, int] | Any


class HDF5Dataset(Dataset[Item]):
    """Items (CHW tensor in the dataset's dtype, label), as StoreDataset gives them; without labels, the tensor alone.

    The file is opened in each process that reads (DataLoader workers made by fork or spawn), never before. A batch
    (`__getitems__`) is read in the order of the file, each chunk once. Where the bytes lie in the file as they are,
    or deflated alone, they are read past HDF5's library, by the chunks' addresses.

    path, images, labels: as in `largeds_native.from_hdf5`; labels="labels" may be missing. transform: of one tensor.
    Raises ArgumentError for datasets that hold no images, RowIndexError for an index outside.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        images: str = IMAGES,
        labels: str | None = LABELS,
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        self.path, self.images, self.transform = Path(os.path.abspath(path)), images, transform
        with reading(self.path) as file:
            self._spec = image_spec(dataset(file, images))
            self.labels = None if labels == LABELS and LABELS not in file else labels
            check_fields(file, {} if self.labels is None else {"label": self.labels}, self._spec.rows)
        self._reader: _Reader | None = None
        self._owner = -1

    def __len__(self) -> int:
        return self._spec.rows

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_reader": None, "_owner": -1}

    def __getitem__(self, index: int) -> Item:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Item]:
        """Items in the order of `indices`; their tensors are views of one block."""
        wanted = np.asarray(indices, np.int64)
        n = len(self)
        if ((wanted < -n) | (wanted >= n)).any():
            raise RowIndexError(
                f"row {wanted[(wanted < -n) | (wanted >= n)][0]} is outside of the {n} rows of {self.path}"
            )
        wanted = np.where(wanted < 0, wanted + n, wanted)
        if self._reader is None or self._owner != os.getpid():  # a handle of HDF5 must not cross a fork
            self._reader, self._owner = _Reader(self.path, self.images, self.labels), os.getpid()
        pixels = torch.from_numpy(self._reader.rows(wanted))
        pixels = pixels.reshape(len(wanted), *([self._spec.variants] * (self._spec.variants > 1)), *self._spec.shape)
        if self._spec.layout == "HWC":
            pixels = pixels.movedim(-1, -3)
        tensors = [self.transform(image) for image in pixels] if self.transform else list(pixels)
        if self._reader.labels is None:
            return tensors
        return list(zip(tensors, self._reader.labels[wanted].tolist(), strict=True))


class _Reader:
    """The opened file, in one process."""

    def __init__(self, path: Path, images: str, labels: str | None) -> None:
        self._file = h5py.File(path, "r")
        self._data = dataset(self._file, images)
        self.labels: Array | None = None if labels is None else field_values(self._file[labels])
        self._row = self._data.dtype.itemsize * int(np.prod(self._data.shape[1:], dtype=np.int64))
        self._deep = self._data.chunks[0] if self._data.chunks else 1
        self._deflated = self._data.compression == "gzip"
        self._chunks = _addresses(self._data)
        self._descriptor = os.open(path, os.O_RDONLY) if self._chunks is not None else -1

    def __del__(self) -> None:
        if getattr(self, "_descriptor", -1) >= 0:
            os.close(self._descriptor)

    def rows(self, wanted: Array) -> Array:
        """(len(wanted), ...) in that order."""
        out = np.empty((len(wanted), *self._data.shape[1:]), self._data.dtype)
        order = np.argsort(wanted, kind="stable")
        try:
            if self._chunks is None:
                self._through_hdf5(wanted, order, out)
            else:
                self._direct(wanted, order, out)
        except OSError as error:
            raise unreadable(self._data, error) from None
        return out.astype(out.dtype.newbyteorder("="), copy=False)

    def _direct(self, wanted: Array, order: Array, out: Array) -> None:
        assert self._chunks is not None
        flat = out.reshape(len(wanted), -1).view(np.uint8)
        last, chunk = -1, np.empty(0, np.uint8)
        for slot in order:
            number, inside = divmod(int(wanted[slot]), self._deep)
            address, size = self._chunks[number]
            if not self._deflated:
                read_into(self._descriptor, int(address) + inside * self._row, flat[slot].data)
                continue
            if number != last:
                packed = os.pread(self._descriptor, int(size), int(address))
                last, chunk = number, np.frombuffer(_inflate(packed, self._deep * self._row), np.uint8)
            flat[slot] = chunk[inside * self._row : (inside + 1) * self._row]

    def _through_hdf5(self, wanted: Array, order: Array, out: Array) -> None:
        """Rows of one chunk, and neighbours, are asked for at once."""
        ordered = wanted[order]
        low = 0
        while low < len(ordered):
            first = int(ordered[low])
            limit = (first // self._deep + 1) * self._deep
            high = low + 1
            while high < len(ordered) and (ordered[high] < limit or ordered[high] - ordered[high - 1] <= 1):
                limit = max(limit, (int(ordered[high]) // self._deep + 1) * self._deep)
                high += 1
            block = self._data[first : int(ordered[high - 1]) + 1]
            out[order[low:high]] = block[ordered[low:high] - first]
            low = high


def _inflate(packed: bytes, size: int) -> bytes:
    try:
        data = zlib.decompress(packed, bufsize=size)
    except zlib.error as error:
        raise OSError(f"a chunk is damaged: {error}") from None
    if len(data) != size:
        raise OSError(f"a chunk is damaged: expected {size:,} bytes, found {len(data):,}")
    return data


def _addresses(data: h5py.Dataset) -> Array | None:
    """(chunks, 2): where in the file each chunk of rows lies, and its bytes. None where HDF5 has to read.

    A contiguous dataset counts as chunks of one row."""
    plain = data.dtype.isnative and not data.is_virtual and not data.external
    if not plain or data.file.userblock_size:
        return None
    row = data.dtype.itemsize * int(np.prod(data.shape[1:], dtype=np.int64))
    if data.chunks is None:
        offset = data.id.get_offset()
        return None if offset is None else np.stack([offset + np.arange(len(data)) * row, np.full(len(data), row)], 1)
    filters = data.id.get_create_plist().get_nfilters()
    if data.chunks[1:] != data.shape[1:] or filters > (data.compression == "gzip"):
        return None
    found = np.full((-(-len(data) // data.chunks[0]), 2), -1, np.int64)

    def note(info: Any) -> None:
        if info.filter_mask == 0:
            found[info.chunk_offset[0] // data.chunks[0]] = info.byte_offset, info.size

    data.id.chunk_iter(note)
    return None if (found < 0).any() else found  # chunks that were never written have no address
