"""Opens HDF5 files with readable error messages, and reads metadata of their datasets."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from largeds_native._internal.arrays import (
    IMAGE_DTYPES,
    MASK,
    MASK_DTYPES,
    MAX_CHANNELS,
    PICTURE,
    FieldSpec,
    is_field_name,
)
from largeds_native.errors import ArgumentError, StorageError, StoreError
from largeds_native.interchange.image_shape import shape_metadata
from largeds_native.store.metadata import MeanStd, Metadata

IMAGES, LABELS, CLASSES, ORIENTATION = "data", "labels", "classes", "orientation"
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
    """A dataset by its name. ArgumentError lists the existing ones; StoreError names a linked or joined file that is
    missing."""
    link = file.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        where = f"{file.filename}: dataset {name!r} is a link to {link.path!r} of {link.filename}"
        with reading(_beside(file, link.filename, where)) as other:
            if link.path not in other:
                raise StoreError(f"{where}, which has no such dataset")
            dataset(other, link.path)  # it may be a link, or virtual, itself
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        names: list[str] = []
        file.visititems(lambda n, item: names.append(n) if isinstance(item, h5py.Dataset) and len(names) < 20 else None)
        listed = ", ".join(repr(n) for n in names) or "none"
        raise ArgumentError(f"{file.filename} has no dataset {name!r}; its datasets are: {listed}")
    _check_virtual(found, frozenset())
    return found


def _beside(file: h5py.File, name: str, where: str) -> Path:
    """The file that a link names, relative to the folder of `file`. HDF5 would also take one of the same name in the
    current directory, whatever it holds."""
    path = Path(file.filename).absolute().parent / name
    if not path.is_file():
        raise StoreError(f"{where}, which is not there: move it back")
    return path


def _check_virtual(data: h5py.Dataset, seen: frozenset[tuple[str, str]]) -> None:
    """HDF5 reads the rows of a missing or shorter source as zeros, without a word; also of a source of a source."""
    identity = (os.path.realpath(data.file.filename), data.name)
    if not data.is_virtual:
        return
    if identity in seen:
        raise StoreError(f"{data.file.filename}: dataset {data.name!r} takes rows from itself")
    for source in data.virtual_sources():
        where = f"{data.file.filename}: dataset {data.name!r} takes rows from {source.file_name}"
        if source.file_name == ".":
            _check_source(data.file, source, where, seen | {identity})
            continue
        with reading(_beside(data.file, source.file_name, where)) as part:
            _check_source(part, source, where, seen | {identity})


def _check_source(part: h5py.File, source: Any, where: str, seen: frozenset[tuple[str, str]]) -> None:
    found, expected = part.get(source.dset_name), _extent(source)
    shape = found.shape if isinstance(found, h5py.Dataset) else None
    if shape is None or len(shape) != len(expected) or any(n < m for n, m in zip(shape, expected, strict=True)):
        raise StoreError(
            f"{where}: expected dataset {source.dset_name!r} of shape {expected}, "
            f"found {'no such dataset' if shape is None else shape}. It was another file when they were joined"
        )
    _check_virtual(found, seen)


def _extent(source: Any) -> tuple[int, ...]:
    """The smallest shape of a source of a virtual dataset that has all that is taken from it."""
    if source.src_space.get_select_type() == h5py.h5s.SEL_ALL:  # it has no bounds then
        first, last = source.vspace.get_select_bounds()
        return tuple(int(high - low + 1) for low, high in zip(first, last, strict=True))
    return tuple(int(high + 1) for high in source.src_space.get_select_bounds()[1])


@contextmanager
def labels_in(file: h5py.File, labels: str | None) -> Iterator[h5py.Dataset | None]:
    """The dataset of the labels: of `file`, or "FILE:DATASET" for one of another file."""
    other, _, name = (labels or "").rpartition(":")
    if labels is None:
        yield None
    elif labels not in file and os.path.isfile(other):
        with reading(other) as opened:
            yield dataset(opened, name)
    else:
        yield dataset(file, labels)


def absolute_labels(file: h5py.File, labels: str | None) -> str | None:
    """The same wherever the process goes: "FILE:DATASET" with the absolute path of the file."""
    other, _, name = (labels or "").rpartition(":")
    if labels is None or labels in file or not os.path.isfile(other):
        return labels
    return f"{os.path.abspath(other)}:{name}"


def image_metadata(images: h5py.Dataset, layout: str | None = None) -> Metadata:
    """The metadata of a dataset of images. The layout is `layout`, else the attribute `layout`, else from the shape."""
    where = f"{images.file.filename}: dataset {images.name!r}"
    if images.dtype.kind == "O" and _text(images.attrs.get("encoding")) == "jpeg":
        raise ArgumentError(
            f"{where} holds JPEG files, as to_hdf5(encoded=True) writes them: decode one with "
            "lds.decode_batch([row.tobytes()]), or export the store with resize=256, crop=224"
        )
    if images.dtype.kind == "O":
        raise ArgumentError(f"{where} is of variable length: expected images of one shape")
    if images.shape is None:
        raise ArgumentError(f"{where} is empty: expected images")
    return shape_metadata(images.shape, images.dtype, where, layout or _text(images.attrs.get("layout")))


def _text(value: Any) -> str | None:
    return value.decode() if isinstance(value, bytes) else value if isinstance(value, str) else None


def further_fields(file: h5py.File, images: str, labels: str | None) -> dict[str, h5py.Dataset]:
    """The other top-level datasets with as many rows as there are images, as fields of a store.

    Datasets that can't be fields, because of their name or a variable length, are left out with a warning.
    """
    rows = dataset(file, images).shape[0]
    names = [n for n, item in file.items() if isinstance(item, h5py.Dataset) and item.shape and item.shape[0] == rows]
    taken = {images.strip("/"), (labels or "").strip("/"), CLASSES}
    others = {name: dataset(file, name) for name in names if name not in taken}
    can_be = {name for name in others if is_field_name(name) and name != "label"}
    fields = {name: values for name, values in others.items() if name in can_be and not _is_variable(values)}
    if left_out := sorted(set(others) - set(fields)):
        warnings.warn(
            f"{file.filename}: left out as fields: {', '.join(map(repr, left_out))}. A field has values of a fixed "
            "size, and a name of letters, digits and _ that means nothing else in a store",
            stacklevel=2,
        )
    return fields


def picture_spec(values: h5py.Dataset, size: tuple[int, int]) -> FieldSpec | None:
    """Of a dataset of masks or other pictures of the images' (height, width), as its attribute `role` says; None for a
    plain field."""
    dtype, shape = values.dtype.newbyteorder("<"), values.shape[1:]
    role, ignore = _text(values.attrs.get("role")), values.attrs.get("ignore")
    if shape[-2:] != size:
        return None
    if role == PICTURE and len(shape) == 3 and 1 <= shape[0] <= MAX_CHANNELS and dtype.name in IMAGE_DTYPES:
        return FieldSpec(dtype, shape, PICTURE)
    if role != MASK or len(shape) != 2 or dtype.name not in MASK_DTYPES:
        return None
    limits = np.iinfo(dtype)
    known = isinstance(ignore, np.integer) and limits.min <= ignore <= limits.max
    return FieldSpec(dtype, shape, MASK, int(ignore) if known else None)


def check_labels(values: h5py.Dataset, rows: int) -> None:
    where = f"{values.file.filename}: dataset {values.name.removeprefix('/')!r}"
    if values.shape is None or values.shape[:1] != (rows,):
        raise ArgumentError(f"{where}: expected {rows:,} values, one per image, found shape {values.shape}")
    if _is_variable(values):
        raise ArgumentError(f"{where} is of variable length: expected values of a fixed size")


def _is_variable(values: h5py.Dataset) -> bool:
    return values.dtype.kind == "O" and h5py.check_string_dtype(values.dtype) is None


def label_shape(values: h5py.Dataset) -> tuple[int, ...]:
    """(N, 1, 1, 1), as PatchCamelyon has them, are N labels."""
    shape: tuple[int, ...] = values.shape
    return shape[:1] if values.size == shape[0] else shape


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
