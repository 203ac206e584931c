"""`largeds_native.open`: which kind of store lies at a path."""

from __future__ import annotations

import os
from typing import Any

from largeds_native.store import PackedStore, Store


def open_store(path: str | os.PathLike[str], **fields: Any) -> Store:
    """Opens a store. Time and memory do not grow with the rows.

    The folder of a packed store gives a `PackedStore`. A .npy file of images, with fields in .npy files of their own
    (`open("images.npy", label="labels.npy")`), and an HDF5 file whose images are contiguous
    (`open("x.h5", images="data", labels="labels")`), give a `MappedArrayStore`, which maps them where they lie.

    Raises StoreError when a file is missing, short, foreign, or of another version.
    """
    if os.path.isfile(path):
        from largeds_native import interchange  # here, since it loads h5py

        opener: Any = interchange.open_npy if os.fspath(path).endswith(".npy") else interchange.open_hdf5
        opened: Store = opener(path, **fields)
        return opened
    if fields:
        raise TypeError(f"{path} is no file: only a .npy or HDF5 file is opened with {', '.join(fields)}")
    return PackedStore(path)
