"""A store whose rows are JPEG files, decoded when they are read."""

from __future__ import annotations

import bisect
import operator
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from largeds_native._internal.arrays import Array
from largeds_native._internal.machine import usable_threads
from largeds_native._internal.progress_bar import ProgressCallback
from largeds_native.errors import RowIndexError, StoreError
from largeds_native.store.base import check_decode
from largeds_native.store.concat_array import ConcatArray
from largeds_native.store.format.images_file import ORIENTATIONS, SIZES, bin_name, offsets_name
from largeds_native.store.format.manifest import NAME as MANIFEST
from largeds_native.store.format.npy import DATA_OFFSET, check_array, map_array
from largeds_native.store.format.statistics import Sums, mean_std, sums_of
from largeds_native.store.image_sequence import ImageSequence
from largeds_native.store.packed import PackedStore
from largeds_native.store.verify import Verification

if TYPE_CHECKING:
    from largeds_native import _C
    from largeds_native.store.base import RowFile
    from largeds_native.store.format.manifest import ShardEntry
    from largeds_native.store.metadata import MeanStd

BIN, OFFSETS = bin_name("images"), offsets_name("images")
STATISTICS_ROWS = 10_000  # that are decoded for `statistics`


class JpegStore(PackedStore):
    """The store of JPEG files in the folder `path`, as `largeds_native.open` returns it.

    `store[i]` decodes row i to (H, W, C) or (C, H, W) pixels, equal to Pillow's; a slice, row numbers or booleans give
    a list of them. `sizes` has height and width of each row, and `encoded(i)` is the JPEG file itself.
    """

    codec = "jpeg"

    def _check_images(self, shard: str, entry: ShardEntry) -> None:
        _check_bytes(f"{shard}/{BIN}", entry.bytes)
        for mask, bytes in entry.picture_bytes.items():
            _check_bytes(f"{shard}/{bin_name(mask)}", bytes)
            check_array(f"{shard}/{offsets_name(mask)}", np.dtype("<u8"), (entry.rows + 1,))
        for name, (dtype, shape) in _arrays(entry.rows).items():
            if name != ORIENTATIONS or entry.turned:
                check_array(f"{shard}/{name}", dtype, shape)

    # ---- rows ------------------------------------------------------------------------------------------------
    @property
    def rows(self) -> _C.EncodedRows:
        """The rows for the C++ core."""
        if self._rows is None:
            self._rows = self._jpeg_rows()
        return self._rows  # type: ignore[return-value]

    def _jpeg_rows(self) -> _C.EncodedRows:
        from largeds_native import _C

        shards = []
        for entry in self._manifest.shards:
            images, offsets, sizes, turns = (
                str(self.path / entry.name / name) for name in (BIN, OFFSETS, SIZES, ORIENTATIONS)
            )
            shards.append((images, offsets, sizes, turns if entry.turned else "", entry.rows, entry.bytes))
        return _C.EncodedRows(shards, DATA_OFFSET, self.arriving)

    def read_spec(self, decode: str = "exact") -> _C.ReadSpec:
        check_decode(decode)
        return self._spec("jpeg", self.channels, "uint8", decode == "scaled")

    def _spec(self, codec: str, channels: int, dtype: str, scaled: bool = False) -> _C.ReadSpec:
        from largeds_native import _C

        assert self.metadata.sizes is not None
        (height, width), largest = self.metadata.sizes.min, self.metadata.sizes.max
        layout = _C.ImageLayout(
            channels=channels, height=max(height, 1), width=max(width, 1), planar=False, dtype=dtype
        )
        return _C.ReadSpec(layout, codec=codec, scaled=scaled, max_pixels=max(largest[0] * largest[1], 1))

    # ---- pictures -----------------------------------------------------------------------------------------------
    def field(self, name: str) -> Any:
        """A field's N values, read-only; pictures are decoded when they are indexed."""
        self._check_field(name)
        if name not in self.metadata.pictures:
            return super().field(name)
        spec = self.metadata.pictures[name]
        shape = None if self.metadata.varies else spec.of_size(self.image_size).shape
        return ImageSequence(self.path, self.metadata, partial(self._picture, name), shape, spec.dtype)

    def _picture(self, name: str, row: int) -> Array:
        spec = self.metadata.pictures[name]
        with self.reading([self._row(row)]):
            decoded = self.picture_rows(name).decode(self._row(row), self.picture_read_spec(name))
        numbers = decoded.view(spec.dtype)[..., 0]
        return numbers if spec.is_mask else numbers[np.newaxis]

    def picture_rows(self, name: str) -> _C.EncodedRows:
        return self._rows_of_pictures[name]

    @cached_property
    def _rows_of_pictures(self) -> dict[str, _C.EncodedRows]:
        from largeds_native import _C

        rows = {}
        for name in self.metadata.pictures:
            files = []
            for entry in self._manifest.shards:
                images, offsets = (str(self.path / entry.name / file) for file in (bin_name(name), offsets_name(name)))
                files.append((images, offsets, "", "", entry.rows, entry.picture_bytes[name]))
            rows[name] = _C.EncodedRows(files, DATA_OFFSET, self.arriving)
        return rows

    def close(self) -> None:
        super().close()
        self.__dict__.pop("_rows_of_pictures", None)

    def picture_read_spec(self, name: str) -> _C.ReadSpec:
        return self._spec("png", 1, self.metadata.pictures[name].dtype.name)

    def encoded(self, row: int, name: str = "images") -> bytes:
        """The JPEG file of a row, or the PNG file of a picture."""
        with self.reading([self._row(row)]):
            return (self.rows if name == "images" else self.picture_rows(name)).read(self._row(row))

    def _row(self, row: int) -> int:
        row = operator.index(row)
        if not -len(self) <= row < len(self):
            raise RowIndexError(f"row {row} is outside of the {len(self)} rows of {self.path}")
        return row % len(self)

    def decoded(self, row: int) -> Array:
        """The pixels of a row, in the store's layout."""
        with self.reading([self._row(row)]):
            pixels = self.rows.decode(self._row(row), self.read_spec())
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)) if self.layout == "CHW" else pixels

    @property
    def images(self) -> ImageSequence:  # type: ignore[override]
        """All images, decoded when they are indexed."""
        return ImageSequence(self.path, self.metadata, self.decoded, self.shape, self.dtype)

    @cached_property
    def sizes(self) -> ConcatArray:  # type: ignore[override]
        """Height and width of each row as shown, (N, 2), read-only."""
        return ConcatArray([shard.rows for shard in self.shards], (2,), np.dtype("<u2"), self._sizes_of)

    @cached_property
    def orientations(self) -> ConcatArray:
        """The EXIF orientation by which each row is turned when it is decoded, (N,), read-only; 1 is upright."""
        return ConcatArray([shard.rows for shard in self.shards], (), np.dtype("u1"), self._orientations_of)

    def _orientations_of(self, index: int) -> Array:
        if not self._manifest.shards[index].turned:
            return np.ones(self.shards[index].rows, np.uint8)
        return self._beside(index, ORIENTATIONS)

    def _sizes_of(self, index: int) -> Array:
        return self._beside(index, SIZES)

    def _beside(self, index: int, name: str) -> Array:
        """One of the arrays that describe a shard's rows, mapped."""
        if (name, index) not in self._parts:
            shard = self.shards[index]
            dtype, shape = _arrays(shard.rows).get(name, (np.dtype("<u8"), (shard.rows + 1,)))  # offsets of pictures
            check_array(shard.path / name, dtype, shape)  # it may have been changed after the store was opened
            self._parts[name, index] = map_array(shard.path / name, dtype, shape)
        return self._parts[name, index]

    def file_range(self, row: int, name: str = "images") -> tuple[str, int, int]:
        """(path, offset, bytes) of a row's JPEG file, or of the PNG file of a picture, in the file that holds it."""
        row = self._row(row)
        index = bisect.bisect_right(self.shards, row, key=lambda shard: shard.start) - 1
        shard, entry = self.shards[index], self._manifest.shards[index]
        offsets = offsets_name(name)
        begin, end = (int(offset) for offset in self._beside(index, offsets)[row - shard.start :][:2])
        if not begin <= end <= (entry.bytes if name == "images" else entry.picture_bytes[name]):
            raise StoreError(f"{shard.path / offsets} is damaged: row {row} has bytes {begin:,} to {end:,}")
        return str(shard.path / bin_name(name)), begin, end - begin

    def files(self, name: str) -> list[RowFile]:
        if name == "images":
            raise StoreError(f"{self.path}: its images are JPEG files, which can't be read as an array: see store[i]")
        return super().files(name)

    def _map(self, name: str, part: int) -> Array:
        self.files(name)  # raises StoreError for "images"
        return super()._map(name, part)

    # ---- as a whole --------------------------------------------------------------------------------------------
    @cached_property
    def statistics(self) -> MeanStd:
        """(mean, std) per channel in [0, 1] units. The first call decodes at most 10,000 rows, evenly spaced. In object
        storage, that fetches their shards."""
        if not len(self):
            raise StoreError(f"{self.path} has no statistics: it has no images")
        rows = np.unique(np.linspace(0, len(self) - 1, min(len(self), STATISTICS_ROWS)).astype(np.int64))
        sums = Sums.zero(self.channels)
        with ThreadPoolExecutor(usable_threads()) as pool:
            for one in pool.map(self._sums_of_row, rows.tolist()):
                sums += one
        found = mean_std([sums], self.channels)
        assert found is not None
        return found

    def _sums_of_row(self, row: int) -> Sums:
        return sums_of(self.decoded(row).reshape(1, -1), self.channels, self.layout == "CHW")

    def verify(self, *, threads: int | None = None, progress: bool | ProgressCallback = True) -> Verification:
        """As `PackedStore.verify`; the manifest is damaged if its range of sizes is not that of the rows."""
        found = super().verify(threads=threads, progress=progress)
        return replace(found, damaged_shards=(*found.damaged_shards, MANIFEST)) if self._damaged_manifest() else found

    def _damaged_manifest(self) -> bool:
        sizes = [np.asarray(self._sizes_of(i), np.int64) for i, shard in enumerate(self.shards) if shard.rows]
        low, high = (0, 0), (0, 0)
        if sizes:
            low = tuple(np.min([part.min(axis=0) for part in sizes], axis=0).tolist())
            high = tuple(np.max([part.max(axis=0) for part in sizes], axis=0).tolist())
        claimed = self.metadata.sizes
        return claimed is not None and (claimed.min, claimed.max) != (low, high)

    def _damaged_rows(self, name: str, index: int, hashes: Array, threads: int) -> list[int]:
        from largeds_native import _C

        offsets, entry = self._row_offsets(name, index), self._manifest.shards[index]
        bytes = entry.bytes if name == "images" else entry.picture_bytes[name]
        # a row whose offsets are damaged is damaged; the others are compared by their own
        sound = (offsets[:-1] >= 0) & (offsets[1:] >= offsets[:-1]) & (offsets[1:] <= bytes)
        if sound.all():
            return super()._damaged_rows(name, index, hashes, threads)
        path = str(self.shards[index].path / bin_name(name))
        return np.flatnonzero(~sound).tolist() + [
            int(row)
            for row in np.flatnonzero(sound)
            if _C.hash_file_rows(path, offsets[row : row + 2]) != hashes[row : row + 1]
        ]

    def _hash_rows(self, name: str, index: int, threads: int) -> Array:
        from largeds_native import _C

        path = str(self.shards[index].path / bin_name(name))
        return _C.hash_file_rows(path, self._row_offsets(name, index), threads)

    def _row_offsets(self, name: str, index: int) -> Array:
        return np.asarray(self._beside(index, offsets_name(name))).astype(np.int64)

    def _hashed_arrays(self, index: int) -> dict[str, Array]:
        turns = self._orientations_of(index)
        return {**super()._hashed_arrays(index), SIZES: self._beside(index, SIZES), ORIENTATIONS: turns}


def _check_bytes(path: str, expected: int) -> None:
    try:
        found = os.stat(path).st_size
    except FileNotFoundError:
        raise StoreError(f"{path} is missing: the store is incomplete or was damaged") from None
    if found != expected:
        kind = "short" if found < expected else "too long"
        raise StoreError(f"{path} is {kind}: expected {expected:,} bytes, found {found:,}")


def _arrays(rows: int) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """The arrays beside the images of a shard, by the names of their files."""
    return {
        OFFSETS: (np.dtype("<u8"), (rows + 1,)),
        SIZES: (np.dtype("<u2"), (rows, 2)),
        ORIENTATIONS: (np.dtype("u1"), (rows,)),
    }
