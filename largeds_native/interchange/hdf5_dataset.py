"""A torch Dataset over HDF5 files."""

from __future__ import annotations

import operator
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from largeds_native._internal.arrays import Array
from largeds_native.interchange.copying import scatter
from largeds_native.interchange.hdf5_file import (
    IMAGES,
    LABELS,
    absolute_labels,
    check_labels,
    dataset,
    field_values,
    image_metadata,
    label_shape,
    labels_in,
    reading,
)
from largeds_native.interchange.hdf5_import import unreadable
from largeds_native.loading.collate import samples_of, values_of
from largeds_native.loading.shared import BatchMemory
from largeds_native.store.gather import dataset_rows, torch_dtype
from largeds_native.store.metadata import Metadata


class HDF5Dataset(Dataset[Any]):
    """Items (CHW tensor in the dataset's dtype, label), as StoreDataset gives them; without labels, the tensor alone.

    The file is opened separately in each process that reads it (DataLoader workers started by fork or by spawn). A
    batch (`__getitems__`) is read in the order of the file, each chunk once. Chunks that are uncompressed or compressed
    only by gzip are read directly by their addresses, without HDF5's library. Without a transform, a worker reads
    directly into memory that it shares with the DataLoader, and reuses it when nobody holds the batch any more.

    path, images, labels: as in `largeds_native.from_hdf5`; with the default, labels may be missing.
    transform: a function of one tensor.

    Raises ArgumentError for datasets that don't hold images, and RowIndexError for an index outside of the dataset.
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
            self._metadata = image_metadata(dataset(file, images))
            self.labels = None if labels == LABELS and LABELS not in file else absolute_labels(file, labels)
            with labels_in(file, self.labels) as values:
                if values is not None:
                    check_labels(values, self._metadata.rows)
        self._reader: _Reader | None = None
        self._owner = -1

    def __len__(self) -> int:
        return self._metadata.rows

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_reader": None, "_owner": -1}

    def __getitem__(self, index: int) -> Any:
        return self._items([operator.index(index)], whole=False)[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Items in the order of `indices`; their tensors are views of one batch, which default_collate doesn't copy."""
        return self._items(indices, whole=self.transform is None and self.labels is not None)

    def _items(self, indices: Sequence[int], whole: bool) -> list[Any]:
        rows = dataset_rows(indices, len(self), self.path)
        if self._reader is None or self._owner != os.getpid():  # an HDF5 handle must not be used after a fork
            self._reader, self._owner = _Reader(self.path, self.images, self.labels, self._metadata), os.getpid()
        batch = self._reader.batch(rows, whole)
        labels = None if self._reader.labels is None else self._reader.labels[rows]
        values = None if labels is None else values_of(labels)
        if whole and values is not None:
            return samples_of(batch, [values], None)
        images = [image if self.transform is None else self.transform(image) for image in batch.unbind(0)]
        return images if values is None else list(zip(images, values, strict=True))


class _Reader:
    """The open file in one process, and the memory of its batches."""

    def __init__(self, path: Path, images: str, labels: str | None, metadata: Metadata) -> None:
        self._file = h5py.File(path, "r")
        self._data = dataset(self._file, images)
        with labels_in(self._file, labels) as values:
            self.labels: Array | None = None if values is None else field_values(values).reshape(label_shape(values))
        self._metadata = metadata
        native = self._data.dtype.newbyteorder("=")
        self._dtype = torch_dtype(native)
        self._row = native.itemsize * int(np.prod(self._data.shape[1:], dtype=np.int64))
        self._chunks = _chunk_layout(self._data)
        # not the file that was opened where that has an external link
        self._descriptor = os.open(self._data.file.filename, os.O_RDONLY) if self._chunks is not None else -1
        self._memory = BatchMemory()

    def __del__(self) -> None:
        if getattr(self, "_descriptor", -1) >= 0:
            os.close(self._descriptor)

    def batch(self, indices: Array, whole: bool) -> Tensor:
        """(len(indices), C, H, W) in the order of `indices`, with an axis of variants before C if there are several.

        whole: a worker sends this very tensor to the DataLoader, so it may be in shared memory."""
        variants = [self._metadata.variants] * (self._metadata.variants > 1)
        shape = (len(indices), *variants, *self._metadata.shape)
        if self._metadata.layout == "CHW":
            out = self._memory.tensor(shape, self._dtype, whole)
            self._read(indices, out)
            return out
        stored = self._memory.tensor(shape, self._dtype, whole=False)
        self._read(indices, stored)
        turned = stored.movedim(-1, -3)
        out = self._memory.tensor(tuple(turned.shape), self._dtype, whole)
        out.copy_(turned)
        return out

    def _read(self, indices: Array, out: Tensor) -> None:
        if not len(indices):
            return
        order = np.argsort(indices, kind="stable")
        rows = out.numpy().reshape(len(indices), *self._data.shape[1:])
        try:
            if self._chunks is None:
                self._through_hdf5(indices[order], order, rows)
            elif self._chunks.sizes is not None:
                self._inflated(indices[order], order, rows, self._chunks.sizes)
            else:
                self._direct(indices[order], order, rows)
        except OSError as error:
            raise unreadable(self._data, error) from None

    def _direct(self, ordered: Array, order: Array, out: Array) -> None:
        """Reads uncompressed rows; adjacent rows are read at once."""
        assert self._chunks is not None
        number, inside = np.divmod(ordered, self._chunks.rows)
        starts = self._chunks.offsets[number] + inside * self._row
        flat = out.reshape(len(out), -1).view(np.uint8)
        ends = np.append(np.flatnonzero(np.diff(starts) != self._row) + 1, len(starts)).tolist()
        low = 0
        for high in ends:
            scatter(self._descriptor, int(starts[low]), [flat[slot].data for slot in order[low:high].tolist()])
            low = high

    def _inflated(self, ordered: Array, order: Array, out: Array, sizes: Array) -> None:
        assert self._chunks is not None
        flat, chunk_rows = out.reshape(len(out), -1).view(np.uint8), self._chunks.rows
        last, chunk = -1, np.empty(0, np.uint8)
        for row, slot in zip(ordered.tolist(), order.tolist(), strict=True):
            number, inside = divmod(row, chunk_rows)
            if number != last:
                packed = os.pread(self._descriptor, int(sizes[number]), int(self._chunks.offsets[number]))
                last, chunk = number, np.frombuffer(_inflate(packed, chunk_rows * self._row), np.uint8)
            flat[slot] = chunk[inside * self._row : (inside + 1) * self._row]

    def _through_hdf5(self, ordered: Array, order: Array, out: Array) -> None:
        """Reads by HDF5's library; rows of one chunk, and adjacent rows, are read at once."""
        chunk_rows = self._data.chunks[0] if self._data.chunks else 1
        low = 0
        while low < len(ordered):
            first = int(ordered[low])
            limit = (first // chunk_rows + 1) * chunk_rows
            high = low + 1
            while high < len(ordered) and (ordered[high] < limit or ordered[high] - ordered[high - 1] <= 1):
                limit = max(limit, (int(ordered[high]) // chunk_rows + 1) * chunk_rows)
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


@dataclass(frozen=True)
class _ChunkLayout:
    """Offsets of chunks of `rows` rows in the file; their `sizes` if they are compressed by gzip."""

    rows: int
    offsets: Array
    sizes: Array | None


def _chunk_layout(data: h5py.Dataset) -> _ChunkLayout | None:
    """None if only HDF5's library can read the dataset. A contiguous dataset is one chunk."""
    plain = data.dtype.isnative and not data.is_virtual and not data.external
    if not plain or data.file.userblock_size:
        return None
    if data.chunks is None:
        offset = data.id.get_offset()
        return None if offset is None else _ChunkLayout(max(1, len(data)), np.array([offset], np.int64), None)
    filters = data.id.get_create_plist().get_nfilters()
    deflated, chunk_rows = data.compression == "gzip", data.chunks[0]
    if data.chunks[1:] != data.shape[1:] or filters > deflated:
        return None
    offsets = np.full(-(-len(data) // chunk_rows), -1, np.int64)
    sizes = np.zeros(len(offsets), np.int64) if deflated else None

    def add(info: Any) -> None:
        if info.filter_mask == 0:
            offsets[info.chunk_offset[0] // chunk_rows] = info.byte_offset
            if sizes is not None:
                sizes[info.chunk_offset[0] // chunk_rows] = info.size

    data.id.chunk_iter(add)
    if (offsets < 0).any():  # chunks that were never written have no offset
        return None
    return _ChunkLayout(chunk_rows, offsets, sizes)
