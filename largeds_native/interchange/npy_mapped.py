"""Opens .npy files as a memory-mapped store."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.lib import format as npy_format

from largeds_native.errors import ArgumentError, StorageError, StoreError
from largeds_native.interchange.image_shape import shape_metadata
from largeds_native.store import MappedArrayStore
from largeds_native.store.mapped import FileState, MappedArray


def open_npy(
    path: str | os.PathLike[str], *, layout: str | None = None, **fields: str | os.PathLike[str]
) -> MappedArrayStore:
    """Opens the images of a .npy file, with fields in further .npy files: open_npy("x.npy", label="y.npy").

    Images have shape (N, H, W, C), (N, C, H, W) or (N, H, W), in C order. `layout` is "CHW" or "HWC"; by default that
    of the shape, by `layout_of`. Raises StoreError for a file that can't be
    mapped, ArgumentError for another shape.
    """
    where = Path(os.path.abspath(path))
    images = _mapped_npy(where)
    metadata = shape_metadata(images.shape, images.dtype, str(where), layout)
    for name, value in fields.items():
        if not isinstance(value, (str, os.PathLike)):
            raise ArgumentError(f"{name}: expected the path of a .npy file, found {type(value).__name__}")
    arrays = {name: _mapped_npy(Path(os.path.abspath(value))) for name, value in fields.items()}
    for array in arrays.values():
        if array.shape[:1] != (metadata.rows,):
            raise ArgumentError(
                f"{array.path}: expected {metadata.rows:,} values, one per image, found shape {array.shape}"
            )
    reopen = (_reopen_npy, (str(where), {name: str(array.path) for name, array in arrays.items()}, layout))
    return MappedArrayStore(where, metadata, images, arrays, reopen)


def _reopen_npy(path: str, fields: dict[str, str], layout: str | None) -> MappedArrayStore:
    return open_npy(path, layout=layout, **fields)


def _mapped_npy(path: Path) -> MappedArray:
    try:
        with open(path, "rb") as file:
            version = npy_format.read_magic(file)
            read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
            shape, fortran, dtype = read(file)
            offset, state = file.tell(), FileState.of(os.fstat(file.fileno()))
    except OSError as error:
        raise StorageError(error.errno, f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise StoreError(f"{path} is not a .npy file: {str(error).splitlines()[0]}") from None
    if dtype.hasobject:
        raise StoreError(f"{path} holds Python objects, which can't be mapped")
    if not dtype.isnative or fortran:
        kind = "Fortran order" if fortran else f"foreign byte order ({dtype})"
        native = dtype.newbyteorder("=").name
        raise StoreError(
            f"{path} holds {kind}, which can't be mapped: save it again with np.save(path, np.ascontiguousarray(x, "
            f"np.{native}))"
        )
    expected = offset + dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    if state.size < expected:
        raise StoreError(
            f"{path} is short: expected {expected:,} bytes for {dtype} of shape {shape}, found {state.size:,}"
        )
    return MappedArray(path, offset, dtype, shape, state)
