"""`.npy` files whose data begin at byte 4096, a page boundary of mapped files. numpy itself writes the headers."""

from __future__ import annotations

import io
import math
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format

from largeds_native.errors import StorageError, StoreError

DATA_OFFSET = 4096
_PREFIX = 10  # magic string, version (1, 0), and the header's length in two bytes

Array = np.ndarray[Any, np.dtype[Any]]
Header = tuple[tuple[int, ...], bool, np.dtype[Any]]  # shape, Fortran order, dtype


@lru_cache(maxsize=256)  # most shards of a store have equal headers
def header_bytes(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """numpy's version 1.0 header for a C-ordered array, padded with spaces to 4096 bytes."""
    stream = io.BytesIO()
    entry = {"descr": npy_format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    npy_format.write_array_header_1_0(stream, entry)
    text = stream.getvalue()[_PREFIX:].rstrip(b" \n")
    length = DATA_OFFSET - _PREFIX
    if len(text) >= length:
        raise StoreError(f"the .npy header of shape {shape} does not fit in {DATA_OFFSET} bytes")
    return npy_format.magic(1, 0) + length.to_bytes(2, "little") + text.ljust(length - 1) + b"\n"


def file_size(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    """Bytes of the whole file."""
    return DATA_OFFSET + dtype.itemsize * math.prod(shape)


def write_array(path: Path, array: Array) -> None:
    """Writes and syncs a new file."""
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    with open(path, "xb") as file:
        file.write(header_bytes(array.dtype, array.shape))
        file.write(array.reshape(-1).view(np.uint8).data if array.size else b"")
        file.flush()
        os.fsync(file.fileno())


def check_array(path: str | os.PathLike[str], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Raises StoreError unless header and size of the file are exactly those of such an array. Maps nothing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            found_size = os.fstat(descriptor).st_size
            head = os.read(descriptor, DATA_OFFSET)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise StoreError(f"{path} is missing: the store is incomplete or was damaged") from None
    except OSError as error:
        raise StorageError(error.errno, f"{path}: {error.strerror}") from error
    if head != header_bytes(dtype, shape):
        found = _read_header(head)
        if found != (shape, False, dtype):
            raise StoreError(f"{path}: expected {_described((shape, False, dtype))}, found {_described(found)}")
        raise StoreError(f"{path}: expected a header of {DATA_OFFSET} bytes as written by this format, found another")
    expected_size = file_size(dtype, shape)
    if found_size != expected_size:
        kind = "short" if found_size < expected_size else "too long"
        expected = f"{expected_size:,} bytes for {_described((shape, False, dtype))}"
        raise StoreError(f"{path} is {kind}: expected {expected}, found {found_size:,}")


def _read_header(head: bytes) -> Header | str:
    """The header as numpy reads it, or the reason why it can't."""
    stream = io.BytesIO(head)
    try:
        version = npy_format.read_magic(stream)
        if version == (1, 0):
            return npy_format.read_array_header_1_0(stream)
        if version == (2, 0):
            return npy_format.read_array_header_2_0(stream)
    except Exception as error:  # numpy parses the header as Python: of damaged bytes, several kinds of errors come
        return f"not a .npy file ({str(error).splitlines()[0][:80]})"
    return f".npy format version {version}"


def _described(found: Header | str) -> str:
    if isinstance(found, str):
        return found
    shape, fortran, dtype = found
    return f"{dtype.name} of shape {shape}" + (" in Fortran order" if fortran else "")


def map_array(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], mode: str = "r") -> Array:
    """Maps a file that passed `check_array`. An array without elements is created instead, as it can't be mapped."""
    if 0 in shape:
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, mode, DATA_OFFSET, shape)  # type: ignore[call-overload, no-any-return]
