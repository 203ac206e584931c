"""Joins several exported HDF5 files to one virtual file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from largeds_native.errors import ArgumentError
from largeds_native.interchange.hdf5_file import CLASSES, IMAGES, dataset, image_metadata, reading
from largeds_native.interchange.new_file import new_file, new_hdf5_file, storage_errors


def join_hdf5(
    paths: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    images: str = IMAGES,
    labels: str | None = None,
) -> Path:
    """Writes a small file whose datasets are virtual ones that concatenate those of `paths`: all at the top level, and
    `images` and `labels` wherever they are. Paths in the folder of `out` or below are stored relative to it, so that
    the files can be moved together. Reading raises StoreError if a part is missing or was replaced by a shorter one.

    Raises ArgumentError if the datasets of the files differ in dtype or row shape, or `out` exists.
    """
    if not paths:
        raise ArgumentError("expected at least one HDF5 file to join, found none")
    folder = Path(out).absolute().parent
    parts: list[tuple[str, dict[str, tuple[tuple[int, ...], Any]]]] = []
    for path in paths:
        with reading(path) as file:
            image_metadata(dataset(file, images))
            named = [name.strip("/") for name in (images, labels) if name is not None]
            names = {*named, *(n for n, d in file.items() if isinstance(d, h5py.Dataset) and d.shape and n != CLASSES)}
            found = {name: (dataset(file, name).shape, file[name].dtype) for name in sorted(names)}
        absolute = Path(path).absolute()
        relative = absolute.relative_to(folder) if absolute.is_relative_to(folder) else absolute
        parts.append((str(relative), found))
    kinds = [{name: (shape[1:], dtype) for name, (shape, dtype) in found.items()} for _, found in parts]
    for path, kind in zip(paths, kinds, strict=True):
        if kind != kinds[0]:
            raise ArgumentError(f"{path}: expected the datasets of {paths[0]}, {kinds[0]}, found {kind}")
    with new_file(out) as temporary, storage_errors(out), new_hdf5_file(temporary) as (file, reserve_more):
        reserve_more(sum(1024 + len(path) for path, _ in parts) * len(kinds[0]))
        for name, (shape, dtype) in kinds[0].items():
            starts = np.cumsum([0, *(found[name][0][0] for _, found in parts)])
            virtual = h5py.VirtualLayout((int(starts[-1]), *shape), dtype)
            for (path, found), start in zip(parts, starts, strict=False):
                n = found[name][0][0]
                virtual[int(start) : int(start) + n] = h5py.VirtualSource(path, name, found[name][0], dtype)
            file.create_virtual_dataset(name, virtual)
        with reading(paths[0]) as first:
            for key, value in first.attrs.items():
                file.attrs[key] = value
            for name in kinds[0]:
                for key, value in first[name].attrs.items():
                    file[name].attrs[key] = value
            if CLASSES in first:
                first.copy(CLASSES, file)
    return Path(out)
