"""Stores whose rows lie in somebody else's file: a contiguous HDF5 dataset or a .npy file, mapped in place."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.lib import format as npy_format

from largeds_native.errors import ArgumentError, StorageError, StoreError
from largeds_native.interchange.hdf5_file import (
    IMAGES,
    LABELS,
    ImageSpec,
    check_fields,
    dataset,
    field_names,
    field_values,
    image_spec,
    read_classes,
    reading,
    shape_spec,
)
from largeds_native.store.manifest import IMAGE_DTYPES, FieldSpec, Manifest, ShardEntry
from largeds_native.store.samples import Shard
from largeds_native.store.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

    from largeds_native import _C

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Block:
    """Rows that lie one after the other in a file."""

    path: Path
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def map(self) -> Array:
        if 0 in self.shape:
            return np.empty(self.shape, self.dtype)
        size = self.offset + self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))
        found = os.stat(self.path).st_size
        if found < size:
            raise StoreError(f"{self.path} was cut since it was opened: expected {size:,} bytes, found {found:,}")
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape)


class MappedStore(Store):
    """A store without a manifest: images and fields lie in files of another format, and are mapped there.

    What needs the hashes that a pack leaves (`verify`, `samples`) says that there are none.
    """

    def __init__(
        self,
        path: Path,
        spec: ImageSpec,
        images: Block,
        fields: Mapping[str, Block | Array],
        classes: tuple[str, ...],
        reopen: tuple[Any, ...],
        normalized: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
    ) -> None:
        if images.dtype.name not in IMAGE_DTYPES or not images.dtype.isnative:
            raise ArgumentError(f"{path}: expected images of {', '.join(IMAGE_DTYPES)}, found {images.dtype}: {IMPORT}")
        if images.offset % images.dtype.itemsize:
            raise ArgumentError(f"{path}: the images begin at byte {images.offset}, inside of a number: {IMPORT}")
        self.path = path
        self._images, self._blocks, self._reopen = images, dict(fields), reopen
        self._manifest = Manifest(
            rows=spec.rows,
            shape=spec.shape,
            dtype=images.dtype,
            layout=spec.layout,
            shards=(ShardEntry("mapped", spec.rows),),
            fields={name: FieldSpec(values.dtype, tuple(values.shape[1:])) for name, values in fields.items()},
            classes=classes,
            normalized=normalized,
            variants=spec.variants,
            options={"source": path.name},
        )
        self.shards = [Shard(path.parent, spec.rows, 0)]
        self._maps, self._joined = {}, {}
        self._memory: dict[str, int] = {}

    @cached_property
    def identity(self) -> str:
        """Of the manifest, and of the file's size and time of change in place of its contents."""
        state = os.stat(self.path)
        text = f"{self._manifest.identity} {state.st_size} {state.st_mtime_ns}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def image_files(self) -> list[tuple[Path, int]]:
        return [(self._images.path, self._images.offset)]

    def _map(self, name: str, part: int) -> Array:
        if (name, part) not in self._maps:
            block = self._images if name == "images" else self._blocks[name]
            array = block.map() if isinstance(block, Block) else block
            if name == "images":
                array = array.reshape(self._manifest.images_shape(len(self)))
            self._maps[name, part] = array
        return self._maps[name, part]

    def field_rows(self, name: str) -> _C.Rows:
        from largeds_native import _C

        self.field(name)
        block = self._blocks[name]
        row_bytes = block.dtype.itemsize * int(np.prod(block.shape[1:], dtype=np.int64))
        if isinstance(block, Block):
            return _C.Rows([(str(block.path), block.offset, len(self))] if len(self) else [], row_bytes)
        # values that had to be read (compressed labels, texts) go to a file in memory, for the core to map
        if name not in self._memory:
            self._memory[name] = os.memfd_create(f"largeds-{name}", os.MFD_CLOEXEC)
            with open(self._memory[name], "wb", closefd=False) as file:
                file.write(np.ascontiguousarray(block).tobytes())
        return _C.Rows([(f"/proc/{os.getpid()}/fd/{self._memory[name]}", 0, len(self))] if len(self) else [], row_bytes)

    def __del__(self) -> None:
        for descriptor in getattr(self, "_memory", {}).values():
            os.close(descriptor)

    def samples_of(self, shards: Any, columns: Any = None) -> pa.Table:
        raise StoreError(f"{self.path} was not packed by largeds: it has no list of samples. {IMPORT}")

    def verify(self, *args: Any, **kwargs: Any) -> Any:
        raise StoreError(f"{self.path} was not packed by largeds: it has no hashes to compare with. {IMPORT}")

    @property
    def report(self) -> None:
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reopen


IMPORT = "to make a store of it, use largeds_native.from_hdf5 or largeds_native.pack"


def open_hdf5(path: str | os.PathLike[str], images: str = IMAGES, labels: str | None = None) -> MappedStore:
    """The images of a contiguous, uncompressed dataset as a store, mapped where they lie.

    labels: dataset of the labels; default "labels" where there is one. Fields that can't be mapped are read. Raises
    ArgumentError for a dataset that is chunked, compressed, external, missing, or of a shape that holds no images.
    """
    where = Path(os.path.abspath(path))
    with reading(where) as file:
        data = dataset(file, images)
        spec = image_spec(data)
        block = _block(where, data)
        if block is None:
            raise ArgumentError(
                f"{where}: dataset {images!r} is {_storage(data)}, which can't be mapped: import it with "
                "largeds_native.from_hdf5 (largeds import), or read it with HDF5Dataset"
            )
        chosen = labels or (LABELS if LABELS in file else None)
        names = field_names(file, images, chosen)
        check_fields(file, names, spec.rows)
        fields = {name: _block(where, file[source]) or field_values(file[source]) for name, source in names.items()}
        classes = tuple(read_classes(file))
        baked = _baked(data)
    return MappedStore(where, spec, block, fields, classes, (open_hdf5, (str(where), images, labels)), baked)


def _storage(data: h5py.Dataset) -> str:
    if data.is_virtual:
        return "virtual"
    if data.external:
        return "in another file"
    if data.chunks:
        return f"compressed ({data.compression})" if data.compression else "chunked"
    return "empty" if data.dtype.isnative else f"of a foreign byte order ({data.dtype})"


def _block(path: Path, data: h5py.Dataset) -> Block | None:
    """None when the values don't lie in one piece, as numpy would read them."""
    plain = data.dtype.kind in "uifcS" and data.dtype.isnative and h5py.check_string_dtype(data.dtype) is None
    if data.size == 0 and plain:
        return Block(path, 0, data.dtype, data.shape)
    offset = None if data.chunks or data.is_virtual or data.external else data.id.get_offset()
    if offset is None or not plain:
        return None
    return Block(path, int(offset), data.dtype, data.shape)


def _baked(data: h5py.Dataset) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    mean, std = data.attrs.get("mean"), data.attrs.get("std")
    if mean is None or std is None or data.dtype.kind != "f":
        return None
    return tuple(float(v) for v in np.ravel(mean)), tuple(float(v) for v in np.ravel(std))


def open_npy(path: str | os.PathLike[str], **fields: str | os.PathLike[str]) -> MappedStore:
    """The images of a .npy file as a store, with fields in .npy files of their own: open_npy("x.npy", label="y.npy").

    Images have shape (N, H, W, C), (N, C, H, W) or (N, H, W), in C order.
    """
    where = Path(os.path.abspath(path))
    images = _npy_block(where)
    spec = shape_spec(images.shape, images.dtype, str(where))
    blocks = {name: _npy_block(Path(os.path.abspath(value))) for name, value in fields.items()}
    for block in blocks.values():
        if block.shape[:1] != (spec.rows,):
            raise ArgumentError(f"{block.path}: expected {spec.rows:,} values, one an image, found shape {block.shape}")
    reopen = (_reopen_npy, (str(where), {name: str(block.path) for name, block in blocks.items()}))
    return MappedStore(where, spec, images, blocks, (), reopen)


def _reopen_npy(path: str, fields: dict[str, str]) -> MappedStore:
    return open_npy(path, **fields)


def _npy_block(path: Path) -> Block:
    try:
        with open(path, "rb") as file:
            version = npy_format.read_magic(file)
            read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
            shape, fortran, dtype = read(file)
            offset, size = file.tell(), os.fstat(file.fileno()).st_size
    except OSError as error:
        raise StorageError(error.errno, f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise StoreError(f"{path} is no .npy file: {str(error).splitlines()[0]}") from None
    if dtype.hasobject or not dtype.isnative or fortran:
        kind = "Python objects" if dtype.hasobject else "Fortran order" if fortran else f"foreign byte order ({dtype})"
        raise StoreError(
            f"{path} holds {kind}, which can't be mapped: save it again with np.save(np.ascontiguousarray(x))"
        )
    expected = offset + dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    if size < expected:
        raise StoreError(f"{path} is short: expected {expected:,} bytes for {dtype} of shape {shape}, found {size:,}")
    return Block(path, offset, dtype, shape)
