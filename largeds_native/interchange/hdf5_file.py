"""Opening HDF5 files with errors that are sentences, and what one dataset of images is."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from largeds_native.errors import ArgumentError, StorageError, StoreError
from largeds_native.store.check import is_field_name

IMAGES, LABELS, CLASSES = "data", "labels", "classes"
PLUGIN_HINT = "type: pip install hdf5plugin, and import hdf5plugin before opening"


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """The file opened for reading; whatever h5py says about a file that can't be read becomes one sentence."""
    try:
        file = h5py.File(path, "r")
    except FileNotFoundError:
        raise StorageError(2, "no such file", os.fspath(path)) from None
    except OSError as error:
        raise _why_not(Path(path), str(error)) from None
    with file:
        yield file


def _why_not(path: Path, message: str) -> StorageError | StoreError:
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
        return StoreError(f"{path} is no HDF5 file, or one that was never closed by its writer")
    return StoreError(f"{path} can't be read as HDF5: {message}")


def dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """A dataset by its name; the message lists those that are there."""
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        names: list[str] = []
        file.visititems(lambda n, item: names.append(n) if isinstance(item, h5py.Dataset) and len(names) < 20 else None)
        listed = ", ".join(repr(n) for n in names) or "none"
        raise ArgumentError(f"{file.filename} has no dataset {name!r}; its datasets are: {listed}")
    return found


@dataclass(frozen=True)
class ImageSpec:
    """What an (N, ...) dataset of images holds: the shape of one as stored, its layout, and versions per image."""

    rows: int
    shape: tuple[int, int, int]
    layout: str
    dtype: np.dtype[Any]
    variants: int = 1


def image_spec(images: h5py.Dataset, layout: str | None = None) -> ImageSpec:
    """Of a dataset; its attribute `layout`, where there is one, decides between readings of the shape."""
    where = f"{images.file.filename}: dataset {images.name!r}"
    if images.dtype.kind == "O":
        raise ArgumentError(f"{where} is of variable length: expected images of one shape")
    if images.shape is None:
        raise ArgumentError(f"{where} is empty: expected images")
    return shape_spec(images.shape, images.dtype, where, layout or _text(images.attrs.get("layout")))


def shape_spec(shape: tuple[int, ...], dtype: np.dtype[Any], where: str, layout: str | None = None) -> ImageSpec:
    """Layout and channels from a shape; (N, H, W) is one channel, (N, V, ...) has V versions of each image.

    The layout is that of the axis which holds 1 or 3, the last one first, unless it is given."""
    if dtype.kind not in "uf" or (dtype.kind == "u" and dtype.itemsize != 1):
        raise ArgumentError(f"{where}: expected uint8, float16, float32 or float64, found {dtype}")
    if len(shape) not in (3, 4, 5) or 0 in shape[1:]:
        raise ArgumentError(f"{where}: expected shape (N, C, H, W), (N, H, W, C) or (N, H, W), found {shape}")
    if len(shape) == 3:
        return ImageSpec(shape[0], (1, shape[1], shape[2]), "CHW", dtype)
    c, h, w = (int(n) for n in shape[-3:])
    found = layout or ("HWC" if w in (1, 3) else "CHW")
    if found not in ("CHW", "HWC") or (c if found == "CHW" else w) not in (1, 3):
        raise ArgumentError(f"{where}: expected an axis of 1 or 3 channels, found shape {shape} and layout {layout!r}")
    return ImageSpec(shape[0], (c, h, w), found, dtype, shape[1] if len(shape) == 5 else 1)


def _text(value: Any) -> str | None:
    return value.decode() if isinstance(value, bytes) else value if isinstance(value, str) else None


def field_names(file: h5py.File, images: str, labels: str | None) -> dict[str, str]:
    """field of a store -> dataset of the file: the labels, and all others at the top with as many rows.

    Those whose names can't be a field's, or mean something else in a store, are left out.
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
            raise ArgumentError(f"{where}: expected {rows:,} values, one an image, found shape {values.shape}")
        if values.dtype.kind == "O" and h5py.check_string_dtype(values.dtype) is None:
            raise ArgumentError(f"{where} is of variable length: expected values of a fixed size")


def field_values(values: h5py.Dataset, selection: Any = ()) -> np.ndarray[Any, np.dtype[Any]]:
    """A field's values with the dtype they had in the store; texts come as numpy's fixed-size ones."""
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
    """Class names, from the attribute or, where they are too many for one, the dataset."""
    if "classes" in file.attrs:
        found = file.attrs["classes"]
    elif isinstance(file.get(CLASSES), h5py.Dataset):
        found = file[CLASSES][()]
    else:
        return []
    return [name.decode() if isinstance(name, bytes) else str(name) for name in np.ravel(found)]


def read_json(file: h5py.File, name: str) -> dict[str, Any]:
    """An attribute that holds a JSON object; empty where there is none."""
    with suppress(ValueError):
        value = json.loads(_text(file.attrs.get(name)) or "{}")
        if isinstance(value, dict):
            return value
    return {}
