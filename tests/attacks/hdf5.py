"""HDF5 files that can't be read: truncated, not HDF5, or with datasets of the wrong kind."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

IMAGES = np.zeros((5, 3, 4, 4), np.uint8)


def write_odd_datasets(path: Path) -> None:
    """Datasets that are not images, named by their defect; `double` can be converted."""
    with h5py.File(path, "w") as file:
        file["data"], file["flat"], file["four"] = IMAGES, IMAGES.reshape(5, -1), np.zeros((5, 40, 50, 60), np.uint8)
        file["short"], file["wide"], file["none"] = np.arange(4), IMAGES.astype(np.int32), h5py.Empty("u1")
        file["double"] = IMAGES.astype(np.float64)
        file.create_dataset("ragged", (5,), h5py.vlen_dtype(np.uint8))
        file.create_group("group")


def write_ragged(path: Path) -> None:
    """Images of variable length."""
    with h5py.File(path, "w") as file:
        file.create_dataset("data", (5,), h5py.vlen_dtype(np.uint8))


def write_unreadable_files(folder: Path, good: Path) -> None:
    """text.h5, empty.h5, cut.h5 and, as a folder, folder.h5."""
    (folder / "text.h5").write_text("no HDF5 at all")
    (folder / "empty.h5").touch()
    (folder / "cut.h5").write_bytes(good.read_bytes()[:-100])
    (folder / "folder.h5").mkdir()


def replace_shuffle_filter(path: Path) -> bool:
    """Replaces the number of the file's only filter, shuffle (2), by an unregistered one. Returns False if this HDF5
    writes filters in another way."""
    data = path.read_bytes()
    shuffle, unknown = ((number).to_bytes(2, "little") + (8).to_bytes(2, "little") for number in (2, 300))
    if data.count(shuffle) != 1:
        return False
    path.write_bytes(data.replace(shuffle, unknown))
    return True
