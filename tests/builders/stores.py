"""Small stores, and HDF5 files as other people write them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import largeds_native as lds
from largeds_native._internal.arrays import FieldSpec
from largeds_native.interchange.raw_store import RawStoreWriter
from largeds_native.store import PackedStore, Store
from largeds_native.store.metadata import Metadata
from tests.builders.images import encode, pixels


def make_labelled_store(folder: Path, n: int = 100, side: int = 8, *, name: str = "s.lds", **options: Any) -> Any:
    """n random RGB images; image i has label i, so that a batch's labels say which images are in it."""
    images = np.random.default_rng(n).integers(0, 256, (n, 3, side, side), np.uint8)
    kwargs: dict[str, Any] = {"resize": None, "crop": None, "progress": False} | options
    return lds.pack((images, np.arange(n)), folder / name, **kwargs)


def make_jpeg_store(
    folder: Path,
    n: int = 12,
    sizes: Sequence[tuple[int, int]] = ((60, 80), (90, 50), (48, 48)),
    *,
    name: str = "j.lds",
    classes: int = 2,
    channels: int = 3,
    **options: Any,
) -> Any:
    """n JPEG files of these (height, width) in turn, kept as they are; labels by `classes` in turn."""
    files = [encode(pixels(*sizes[i % len(sizes)], channels, seed=i), quality=90) for i in range(n)]
    items = [(file, i % classes) for i, file in enumerate(files)]
    kwargs: dict[str, Any] = {"codec": "jpeg", "resize": None, "progress": False, "key": "files"} | options
    return lds.pack(items, folder / name, **kwargs)


def make_random_store(
    path: Path,
    n: int = 7,
    shape: tuple[int, int, int] = (3, 4, 5),
    dtype: str = "uint8",
    layout: str = "CHW",
    variants: int = 1,
    fields: dict[str, Any] | None = None,
    classes: tuple[str, ...] = ("cat", "dög"),
    shard_rows: int = 3,
    seed: int = 0,
) -> PackedStore:
    """Random rows of any shape, dtype and layout, written without packing."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    raw = rng.integers(0, 256, (n, variants * int(np.prod(shape)) * kind.itemsize), np.uint8)
    if kind.kind == "f":
        raw = rng.normal(size=(n, variants * int(np.prod(shape)))).astype(kind).view(np.uint8)
    values = {"label": rng.integers(0, 2, n)} if fields is None else fields
    values = {name: np.asarray(value) for name, value in values.items()}
    specs = {name: FieldSpec(value.dtype.newbyteorder("<"), value.shape[1:]) for name, value in values.items()}
    metadata = Metadata(0, shape, kind, layout, specs, classes, variants=variants)
    with RawStoreWriter(path, metadata, shard_rows * raw.shape[1]) as writer:
        writer.add(raw, values, [f"#{i}" for i in range(n)])
    return PackedStore(path)


def assert_equal_stores(found: Store, expected: Store) -> None:
    assert (found.shape, found.layout, found.dtype, found.variants, found.classes) == (
        expected.shape,
        expected.layout,
        expected.dtype,
        expected.variants,
        expected.classes,
    )
    assert np.asarray(found.images).tobytes() == np.asarray(expected.images).tobytes()
    assert set(found.fields) == set(expected.fields)
    for name in expected.fields:
        assert found[name].dtype == expected[name].dtype, name
        np.testing.assert_array_equal(np.asarray(found[name]), np.asarray(expected[name]))


def write_hdf5(path: Path, images: Any, labels: Any = None, name: str = "data", **storage: Any) -> Path:
    """Writes a file by h5py; `storage`: options for the images, such as chunks."""
    with h5py.File(path, "w") as file:
        file.create_dataset(name, data=images, **storage)
        if labels is not None:
            file["labels"] = labels
    return path


def largest_shard(store: Any) -> int:
    """Bytes of the rows of its largest shard, which a cache counts."""
    apart = ("samples.parquet", "shard.json")
    return max(
        sum(file.stat().st_size for file in shard.path.iterdir() if file.name not in apart) for shard in store.shards
    )
