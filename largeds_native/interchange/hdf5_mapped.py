"""Opens contiguous HDF5 datasets as a memory-mapped store."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import h5py

from largeds_native._internal.arrays import Array
from largeds_native.errors import ArgumentError
from largeds_native.interchange.hdf5_file import (
    IMAGES,
    LABELS,
    absolute_labels,
    check_labels,
    dataset,
    field_values,
    further_fields,
    image_metadata,
    label_shape,
    labels_in,
    picture_spec,
    read_classes,
    read_normalized,
    reading,
)
from largeds_native.store import MappedArrayStore
from largeds_native.store.mapped import FileState, MappedArray


def open_hdf5(
    path: str | os.PathLike[str], images: str = IMAGES, labels: str | None = None, *, layout: str | None = None
) -> MappedArrayStore:
    """Opens the images of a contiguous, uncompressed dataset as a memory-mapped store.

    labels: dataset of the labels, "FILE:DATASET" for one of another file; default "labels" if it exists. Fields that
        can't be mapped are read into memory.
    layout: "CHW" or "HWC", if the shape fits both.

    Raises ArgumentError for a dataset that is chunked, compressed, external, or missing, and for a shape that is not
    one of images.
    """
    where = Path(os.path.abspath(path))
    with reading(where) as file:
        data = dataset(file, images)
        metadata = image_metadata(data, layout)
        mapped = _mapped(data)
        if mapped is None:
            raise ArgumentError(
                f"{where}: dataset {images!r} is {_storage(data)}, which can't be mapped: import it with "
                "largeds_native.from_hdf5 (largeds import), or read it with HDF5Dataset"
            )
        chosen = labels or (LABELS if LABELS in file else None)
        absolute = absolute_labels(file, labels)
        fields: dict[str, MappedArray | Array] = {}
        with labels_in(file, chosen) as values:
            if values is not None:
                check_labels(values, metadata.rows)
                fields["label"] = _field(values, label_shape(values))
        others = further_fields(file, images, chosen)
        fields |= {name: _field(values, values.shape) for name, values in others.items()}
        pictures = {
            name: spec for name, values in others.items() if (spec := picture_spec(values, metadata.image_size))
        }
        known = replace(metadata, classes=tuple(read_classes(file)), normalized=read_normalized(data))
    reopen = (_reopen_hdf5, (str(where), images, absolute, layout))
    return MappedArrayStore(where, known, mapped, fields, reopen, pictures)


def _reopen_hdf5(path: str, images: str, labels: str | None, layout: str | None) -> MappedArrayStore:
    return open_hdf5(path, images, labels, layout=layout)


def _storage(data: h5py.Dataset) -> str:
    if data.is_virtual:
        return "virtual"
    if data.external:
        return "in another file"
    if data.chunks:
        return f"compressed ({data.compression})" if data.compression else "chunked"
    return "empty" if data.dtype.isnative else f"of a foreign byte order ({data.dtype})"


def _field(values: h5py.Dataset, shape: tuple[int, ...]) -> MappedArray | Array:
    mapped = _mapped(values)
    return field_values(values).reshape(shape) if mapped is None else replace(mapped, shape=shape)


def _mapped(data: h5py.Dataset) -> MappedArray | None:
    """None if the values are not contiguous in the file in a dtype of numpy."""
    path = Path(os.path.abspath(data.file.filename))  # an external link leads to another file than the opened one
    plain = data.dtype.kind in "uifcS" and data.dtype.isnative and h5py.check_string_dtype(data.dtype) is None
    if data.size == 0 and plain:
        return MappedArray(path, 0, data.dtype, data.shape, FileState.of(os.stat(path)))
    offset = None if data.chunks or data.is_virtual or data.external else data.id.get_offset()
    if offset is None or not plain:
        return None
    return MappedArray(path, int(offset), data.dtype, data.shape, FileState.of(os.stat(path)))
