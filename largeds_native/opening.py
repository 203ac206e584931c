"""`largeds_native.open`: opens any kind of store."""

from __future__ import annotations

import os
from typing import Any

from largeds_native.errors import ArgumentError
from largeds_native.store import Store, open_packed


def open_store(path: str | os.PathLike[str], **fields: Any) -> Store:
    """Opens a store. Time and memory do not grow with the number of rows.

    The folder of a packed store opens as a `PackedStore`, or as a `JpegStore` if its rows are JPEG files. A .npy file
    of images, with fields in further .npy files
    (`open("images.npy", label="labels.npy")`), and an HDF5 file whose images are contiguous
    (`open("x.h5", images="data", labels="labels")`), open as a `MappedArrayStore`, which maps these files.
    `layout="CHW"` or "HWC" of such a file says which axis has the channels, where its shape fits both: by default, the
    last or the first if it is 1 or 3, else the shorter of them, and the first of equal ones.

    Raises StoreError if a file is missing, incomplete, of another format, or of another version.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ArgumentError(f"path: expected the path of a store, found {type(path).__name__}")
    if os.path.isfile(path):
        from largeds_native import interchange  # here, since it loads h5py

        opener: Any = interchange.open_npy if os.fspath(path).endswith(".npy") else interchange.open_hdf5
        if os.fspath(path).endswith(".npy") and "labels" in fields:
            raise ArgumentError("labels=: for a .npy file, each field has its own name: expected label=, found labels=")
        opened: Store = opener(path, **fields)
        return opened
    if fields:
        raise TypeError(f"{path} is not a file: only a .npy or HDF5 file can be opened with {', '.join(fields)}")
    return open_packed(path)
