"""Imports any HDF5 file with a dataset of images as a store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from largeds_native._internal.arrays import IMAGE_DTYPES, Array, FieldSpec
from largeds_native._internal.progress_bar import ProgressCallback, progress_of
from largeds_native.errors import ArgumentError, StoreError
from largeds_native.interchange.hdf5_file import (
    IMAGES,
    LABELS,
    PLUGIN_HINT,
    check_labels,
    dataset,
    field_values,
    further_fields,
    image_metadata,
    label_shape,
    labels_in,
    picture_spec,
    read_classes,
    read_json,
    read_normalized,
    reading,
)
from largeds_native.interchange.raw_store import RawStoreWriter
from largeds_native.store import PackedStore
from largeds_native.store.metadata import Metadata

BLOCK_BYTES = 16 << 20


def from_hdf5(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    images: str = IMAGES,
    labels: str | None = LABELS,
    *,
    dtype: str | None = None,
    layout: str | None = None,
    shard_bytes: int = 1 << 30,
    progress: bool | ProgressCallback | None = True,
) -> PackedStore:
    """Writes a store in the folder `out` from the datasets `images` and `labels` of the HDF5 file `path`, and opens
    it.

    images: name of a dataset of shape (N, C, H, W), (N, H, W, C) or (N, H, W), of any dtype of images, with any
        storage layout. Pixels are not changed.
    labels: name of a dataset of N values, "FILE:DATASET" for one of another file; None without labels. Other top-level
        datasets with N rows become fields, or masks and other pictures, as an export of a store with these says; a
        warning names those that can't.
    dtype: "float32" or "float16", to convert float images.
    layout: "CHW" or "HWC", if the shape fits both.
    shard_bytes: largest size of a shard's images in bytes.
    progress: True shows a bar if stderr is a terminal; or a function called with (rows done, total rows).

    Reads each chunk once, in order, some tens of MB at a time. Raises ArgumentError for datasets that are missing or
    don't hold images, and for an existing output; StoreError for a file that is not HDF5 or needs a filter that is not
    installed.
    """
    with reading(path) as file:
        data = dataset(file, images)
        fields, metadata = _contents(file, images, labels, dtype, layout)
        with RawStoreWriter(out, metadata, shard_bytes) as writer, progress_of(progress, "import") as on_progress:
            done = 0
            for block in blocks(data):
                array = np.ascontiguousarray(block.astype(metadata.dtype, copy=False))
                part = {name: np.asarray(values[done : done + len(block)]) for name, values in fields.items()}
                names = [f"#{done + i}" for i in range(len(block))]
                writer.add(array.reshape(len(block), -1).view(np.uint8), part, names)
                done += len(block)
                on_progress(done, len(data))
    return PackedStore(out)


def _contents(
    file: h5py.File, images: str, labels: str | None, dtype: str | None, layout: str | None
) -> tuple[dict[str, Any], Metadata]:
    """The values of the fields, those of pictures as their datasets, and the metadata of the new store."""
    data = dataset(file, images)
    found, path = image_metadata(data, layout), Path(file.filename)
    stored = np.dtype(dtype or found.dtype).newbyteorder("<")
    if stored.name not in IMAGE_DTYPES or (found.dtype.kind == "f") != (stored.kind == "f"):
        hint = "; pass dtype='float32'" if found.dtype.kind == "f" else ""
        raise ArgumentError(f"{path}: expected images of {', '.join(IMAGE_DTYPES)}, found {found.dtype}{hint}")
    fields = {}
    with labels_in(file, labels) as values:
        if values is not None:
            check_labels(values, found.rows)
            label = field_values(values).reshape(label_shape(values))
            whole = label.ndim == 1 and label.dtype.kind in "biu"
            fields["label"] = label.astype(np.int64) if whole else label
    further = further_fields(file, images, labels)
    pictures = {name: spec for name, values in further.items() if (spec := picture_spec(values, found.image_size))}
    fields |= {name: values if name in pictures else field_values(values) for name, values in further.items()}
    specs = {name: FieldSpec(values.dtype.newbyteorder("<"), values.shape[1:]) for name, values in fields.items()}
    return fields, replace(
        found,
        dtype=stored,
        fields={**specs, **pictures},
        classes=tuple(read_classes(file)),
        normalized=read_normalized(data),
        options=read_json(file, "options") or {"source": path.name, "images": images.strip("/")},
        libraries=read_json(file, "libraries"),
    )


def blocks(data: h5py.Dataset) -> Iterator[Array]:
    """Yields the dataset in blocks of whole chunks, so that no chunk is read or decompressed twice."""
    row = max(1, data.dtype.itemsize * int(np.prod(data.shape[1:], dtype=np.int64)))
    chunk_rows = data.chunks[0] if data.chunks else 1
    step = max(1, BLOCK_BYTES // (row * chunk_rows)) * chunk_rows
    for low in range(0, len(data), step):
        yield read_rows(data, slice(low, low + step))


def read_rows(data: h5py.Dataset, rows: slice) -> Array:
    try:
        return np.asarray(data[rows])
    except OSError as error:
        raise unreadable(data, error) from None


def unreadable(data: h5py.Dataset, error: OSError) -> StoreError:
    """The readable form of HDF5's error for rows that can't be read."""
    where, text = f"{data.file.filename}: dataset {data.name!r}", str(error)
    if "plugin" in text or "filter" in text.lower():
        return StoreError(f"{where} is compressed with a filter that is not installed; {PLUGIN_HINT}")
    return StoreError(f"{where} can't be read: {text[:200]}")
