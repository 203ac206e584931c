"""Opens HDF5 files with readable error messages, and reads metadata of their datasets."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from largeds_native._internal.arrays import is_field_name
from largeds_native.errors import ArgumentError, StorageError, StoreError
from largeds_native.interchange.image_shape import shape_metadata
from largeds_native.store.metadata import MeanStd, Metadata

IMAGES, LABELS, CLASSES = "data", "labels", "classes"
PLUGIN_HINT = "type: pip install hdf5plugin, and import hdf5plugin before opening"


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Opens the file for reading; h5py's errors become StorageError or StoreError with a readable message."""
    try:
        file = h5py.File(path, "r")
    except FileNotFoundError:
        raise StorageError(2, "no such file", os.fspath(path)) from None
    except OSError as error:
        raise _open_error(Path(path), str(error)) from None
    with file:
        yield file


def _open_error(path: Path, message: str) -> StorageError | StoreError:
    if path.is_dir():
        return StoreError(f"{path} is a folder: expected an HDF5 file")
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        return StorageError(error.errno, f"{path}: {error.strerror}")
    if "lock file" in message or "already open" in message:
        return StorageError(f"{path} is open for writing elsewhere: close it there first")
    if "truncated" in message or "eof" in message:
        return StoreError(f"{path} is cut off: HDF5 expects more bytes than the {path.stat().st_size:,} that are there")
    if "signature" in message:
        return StoreError(f"{path} is not an HDF5 file, or one that was never closed by its writer")
    return StoreError(f"{path} can't be read as HDF5: {message}")


def dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """A dataset by its name; ArgumentError lists the existing ones."""
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        names: list[str] = []
        file.visititems(lambda n, item: names.append(n) if isinstance(item, h5py.Dataset) and len(names) < 20 else None)
        listed = ", ".join(repr(n) for n in names) or "none"
        raise ArgumentError(f"{file.filename} has no dataset {name!r}; its datasets are: {listed}")
    return found


def image_metadata(images: h5py.Dataset, layout: str | None = None) -> Metadata:
    """The metadata of a dataset of images. The layout is `layout`, else the attribute `layout`, else from the shape."""
    where = f"{images.file.filename}: dataset {images.name!r}"
    if images.dtype.kind == "O":
        raise ArgumentError(f"{where} is of variable length: expected images of one shape")
    if images.shape is None:
        raise ArgumentError(f"{where} is empty: expected images")
    return shape_metadata(images.shape, images.dtype, where, layout or _text(images.attrs.get("layout")))


def _text(value: Any) -> str | None:
    return value.decode() if isinstance(value, bytes) else value if isinstance(value, str) else None


def field_names(file: h5py.File, images: str, labels: str | None) -> dict[str, str]:
    """Maps fields of a store to datasets of the file: the labels, and all other top-level datasets with as many rows.

    Datasets are left out if their name is not a valid field name, or has another meaning in a store.
    """
    rows = dataset(file, images).shape[0]
    fields = {} if labels is None else {"label": labels}
    others = [n for n, item in file.items() if isinstance(item, h5py.Dataset) and item.shape and item.shape[0] == rows]
    taken = {images, labels, CLASSES, *fields}
    return fields | {name: name for name in others if name not in taken and is_field_name(name)}


def check_fields(file: h5py.File, fields: dict[str, str], rows: int) -> None:
    for name in fields.values():
        values = dataset(file, name)
        where = f"{file.filename}: dataset {name!r}"
        if values.shape is None or values.shape[:1] != (rows,):
            raise ArgumentError(f"{where}: expected {rows:,} values, one per image, found shape {values.shape}")
        if values.dtype.kind == "O" and h5py.check_string_dtype(values.dtype) is None:
            raise ArgumentError(f"{where} is of variable length: expected values of a fixed size")


def field_values(values: h5py.Dataset, selection: Any = ()) -> np.ndarray[Any, np.dtype[Any]]:
    """The values of a field with their dtype in the store; strings have numpy's fixed-size dtypes."""
    known = _text(values.attrs.get("numpy_dtype"))
    if (text := h5py.check_string_dtype(values.dtype)) is not None:
        if text.length is not None and text.encoding == "ascii":
            return np.asarray(values[selection]).astype(values.dtype.str)  # without h5py's metadata
        array = np.asarray(values.asstr()[selection])
        array = np.asarray(array.tolist()).reshape(array.shape) if array.dtype.kind == "O" else array
        return array.astype(known) if known else array
    array = np.asarray(values[selection])
    return array.astype(known) if known else array


def read_classes(file: h5py.File) -> list[str]:
    """Class names, from the attribute, or from the dataset if there are too many for an attribute."""
    if "classes" in file.attrs:
        found = file.attrs["classes"]
    elif isinstance(file.get(CLASSES), h5py.Dataset):
        found = file[CLASSES][()]
    else:
        return []
    return [name.decode() if isinstance(name, bytes) else str(name) for name in np.ravel(found)]


def read_normalized(data: h5py.Dataset) -> MeanStd | None:
    """The (mean, std) by which float images were normalised, if the file records it."""
    mean, std = data.attrs.get("mean"), data.attrs.get("std")
    if mean is None or std is None or data.dtype.kind != "f":
        return None
    return tuple(float(v) for v in np.ravel(mean)), tuple(float(v) for v in np.ravel(std))


def read_json(file: h5py.File, name: str) -> dict[str, Any]:
    """An attribute that holds a JSON object; {} if there is none."""
    with suppress(ValueError):
        value = json.loads(_text(file.attrs.get(name)) or "{}")
        if isinstance(value, dict):
            return value
    return {}
