"""`largeds_native.open`: opens any kind of store."""

from __future__ import annotations

import os
from typing import Any

from largeds_native._internal.urls import is_url, local_path, without_credentials
from largeds_native.errors import ArgumentError
from largeds_native.store import Store, open_packed, open_remote


def open_store(
    path: str | os.PathLike[str],
    *,
    cache: str | os.PathLike[str] | None = None,
    cache_bytes: int | None = None,
    **fields: Any,
) -> Store:
    """Opens the store at `path`, a folder, file or URL. Time and memory do not grow with the number of rows.

    The folder of a packed store opens as a `PackedStore`, or as a `JpegStore` if its rows are JPEG files.

    A URL, such as "s3://bucket/train.lds", opens a store in object storage as a `RemoteStore` or `RemoteJpegStore`, by
    one request. Its shards are fetched when they are first used, compared with their hashes, and kept in the folder
    `cache` on a local disk, which all processes of the machine share: at most `cache_bytes` of this store, or all of it
    without a limit. A Loader fetches ahead of its order. Batches are those of a local copy, bit for bit.

    A .npy file of images, with fields in further .npy files (`open("images.npy", label="labels.npy")`), and an HDF5
    file whose images are contiguous (`open("x.h5", images="data", labels="labels")`), open as a `MappedArrayStore`,
    which maps these files. `layout="CHW"` or "HWC" of such a file says which axis has the channels, where its shape
    fits both: by default, the last or the first if it is 1 or 3, else the shorter of them, and the first of equal ones.

    Raises StoreError if a file is missing, incomplete, of another format, or of another version; ArgumentError for a
    cache of a local store; StorageError if a file or URL can't be read.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ArgumentError(f"path: expected the path of a store, found {type(path).__name__}")
    if is_url(path):
        if fields:
            raise TypeError(
                f"{without_credentials(str(path))}: expected cache and cache_bytes, found {', '.join(fields)}"
            )
        return open_remote(str(path), cache, cache_bytes)
    if cache is not None or cache_bytes is not None:
        raise ArgumentError(
            f"cache: {os.fspath(path)!r} is on this machine; a cache is for URLs such as s3://bucket/a.lds"
        )
    path = local_path(path)
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
