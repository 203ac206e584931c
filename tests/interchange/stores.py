"""Small stores of any shape, dtype and layout, and h5py files as others write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from hypothesis import strategies as st

from largeds_native._internal.arrays import FieldSpec
from largeds_native.interchange.raw_store import RawStoreWriter
from largeds_native.store import PackedStore, Store
from largeds_native.store.metadata import Metadata


def make_store(
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


@st.composite
def store_arguments(draw: st.DrawFn) -> dict[str, Any]:
    n = draw(st.integers(1, 9))
    channels, height, width = draw(st.sampled_from([1, 3])), draw(st.integers(1, 6)), draw(st.integers(1, 6))
    layout = draw(st.sampled_from(["CHW", "HWC"]))
    dtypes = st.sampled_from(["int64", "uint8", "float16", "float64", "bool", "complex64", "S5", "U3", "int16"])
    names = draw(st.lists(st.sampled_from(["label", "weight", "box", "name"]), unique=True))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    fields = {}
    for name in names:
        dtype = draw(dtypes) if name != "label" else "int64"
        extent = (n, *draw(st.sampled_from([(), (4,), (2, 2)]))) if name != "label" else (n,)
        fields[name] = rng.integers(0, 90, extent).astype(dtype)
    return {
        "n": n,
        "shape": (channels, height, width) if layout == "CHW" else (height, width, channels),
        "dtype": draw(st.sampled_from(["uint8", "float16", "float32"])),
        "layout": layout,
        "variants": draw(st.sampled_from([1, 1, 2])),
        "fields": fields,
        "classes": draw(st.sampled_from([(), ("a", "b c", "ü")])),
        "shard_rows": draw(st.integers(1, 5)),
    }


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


def write_h5(path: Path, images: Any, labels: Any = None, name: str = "data", **storage: Any) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset(name, data=images, **storage)
        if labels is not None:
            file["labels"] = labels
    return path
