"""Masks in HDF5 files, both ways, and gathered from a store."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

import largeds_native as lds
from largeds_native.errors import ArgumentError, StoreError
from largeds_native.interchange import export_hdf5
from tests.builders.masks import make_mask_tree

AUGMENT = lds.Augment(resized_crop=12, flip=0.5)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("hdf5")
    tree = make_mask_tree(folder / "tree")
    options: dict[str, Any] = {"masks": tree.masks, "ignore": 255, "progress": False}
    return {
        "raw": lds.pack(tree.images, folder / "raw", resize=32, crop=24, shard_bytes=6000, **options),
        "jpeg": lds.pack(tree.images, folder / "jpeg", codec="jpeg", **options),
    }


@pytest.mark.parametrize("layout", ["contiguous", "chunked"])
@pytest.mark.parametrize("kind", ["raw", "jpeg"])
def test_there_and_back(stores: dict[str, Any], tmp_path: Path, kind: str, layout: str) -> None:
    store = stores[kind]
    sizes = {} if kind == "raw" else {"resize": 32, "crop": 24}
    path = store.to_hdf5(tmp_path / "s.h5", layout=layout, progress=False, **sizes)
    expected = np.asarray(stores["raw"]["mask"])
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["mask"][:], expected)
        assert (file["mask"].attrs["role"], file["mask"].attrs["ignore"]) == ("mask", 255)
    back = lds.from_hdf5(path, tmp_path / "back", shard_bytes=6000, progress=False)
    assert back.metadata.pictures == stores["raw"].metadata.pictures
    assert back.fields == ("label", "mask")
    assert len(back.shards) > 1
    np.testing.assert_array_equal(back["mask"], expected)
    assert back.verify().ok
    stored = [back] if layout == "chunked" else [back, lds.open(path)]
    for again in stored:
        options: dict[str, Any] = {
            "augment": AUGMENT,
            "fields": ("mask", "label"),
            "dtype": torch.uint8,
            "shuffle": True,
        }
        for ours, same in zip(lds.Loader(again, 3, **options), lds.Loader(back, 3, **options), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(ours, same, strict=True))


def test_the_files_of_a_jpeg_store(stores: dict[str, Any], tmp_path: Path) -> None:
    store = stores["jpeg"]
    path = export_hdf5(store, tmp_path / "s.h5", encoded=True, indices=[3, 1], progress=False)
    with h5py.File(path) as file:
        assert dict(file["mask"].attrs) == {"encoding": "png", "role": "mask", "ignore": 255}
        for value, row in zip(file["mask"], (3, 1), strict=True):
            np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(value.tobytes()))), store["mask"][row])


@pytest.mark.parametrize(
    "attributes", [{"role": "mask"}, {"role": "mask", "ignore": 300}, {"role": 5}, {"role": "mask", "ignore": "x"}, {}]
)
def test_what_a_file_says_of_masks(tmp_path: Path, attributes: dict[str, Any]) -> None:
    """A role that can't be is no mask; an `ignore` that can't be is none."""
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["data"] = np.zeros((3, 8, 9, 3), np.uint8)
        file["mask"] = np.zeros((3, 8, 9), np.uint8)
        file["float"] = np.zeros((3, 8, 9), np.float32)
        file["float"].attrs["role"] = "mask"
        file["mask"].attrs.update(attributes)
    store = lds.from_hdf5(tmp_path / "f.h5", tmp_path / "s", labels=None, progress=False)
    expected = {"mask"} if attributes.get("role") == "mask" else set()
    assert set(store.metadata.pictures) == expected
    assert all(spec.ignore is None for spec in store.metadata.pictures.values())


@pytest.mark.parametrize("kind", ["raw", "jpeg"])
def test_gather(stores: dict[str, Any], kind: str) -> None:
    store, rows = stores[kind], [5, 0, 5]
    sizes: dict[str, Any] = {"resize": 20, "crop": 18} if kind == "jpeg" else {"crop": 18}
    images, labels, masks = store.gather(rows, fields=("label", "mask"), **sizes)
    assert torch.equal(images, store.gather(rows, **sizes))
    assert labels.tolist() == [store["label"][row] for row in rows]
    view = lds.Augment(resize=sizes.get("resize"), center_crop=18)
    loader = lds.Loader(store, 3, order=rows, augment=view, fields=("mask",), dtype=torch.uint8)
    assert torch.equal(masks, next(iter(loader))[1])
    assert store.gather([], fields=("mask",), **sizes)[1].shape == (0, 18, 18)
    with pytest.raises(StoreError, match="has no field 'depth'"):
        store.gather(rows, fields=("depth",), **sizes)


def test_a_field_that_is_in_the_way(tmp_path: Path) -> None:
    images = np.zeros((2, 8, 8, 3), np.uint8)
    source = lds.sources.arrays(images, masks={"labels": np.zeros((2, 8, 8), np.uint8)}, labels=[0, 1])
    store = lds.pack(source, tmp_path / "s", resize=None, crop=None, progress=False)
    with pytest.raises(ArgumentError, match="can't be exported: the file has another dataset of this name"):
        store.to_hdf5(tmp_path / "s.h5", progress=False)
