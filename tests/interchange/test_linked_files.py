"""HDF5 files whose datasets lie in other files: links, virtual datasets, labels apart from their images."""

from __future__ import annotations

import gc
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from torch.utils.data import DataLoader
from typer.testing import CliRunner

import largeds_native as lds
from largeds_native.cli.app import app
from largeds_native.errors import ArgumentError, StoreError
from largeds_native.interchange import HDF5Dataset, from_hdf5, join_hdf5
from tests.builders.stores import write_hdf5

IMAGES = np.random.default_rng(0).integers(0, 256, (9, 4, 5, 3), np.uint8)
LABELS = np.arange(9)


def all_ways(path: Path, out: Path, **names: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """(images as HWC, labels) as each reader gives them."""
    opened, imported = lds.open(path, **names), from_hdf5(path, out, progress=False, **names)
    dataset = HDF5Dataset(path, **names)
    images, labels = next(iter(DataLoader(dataset, 9)))
    mapped = [(np.asarray(store.images), np.asarray(store["label"])) for store in (opened, imported)]
    return [*mapped, (images.permute(0, 2, 3, 1).numpy(), labels.numpy())]


@pytest.mark.parametrize("storage", [{}, {"chunks": (2, 4, 5, 3), "compression": "gzip"}])
def test_external_links(tmp_path: Path, storage: dict[str, Any]) -> None:
    """The offset is that of the linked file, and so must the bytes be."""
    (tmp_path / "far").mkdir()
    with h5py.File(tmp_path / "far" / "pixels.h5", "w") as file:
        file["padding"] = np.zeros(1000)
        file.create_dataset("x", data=IMAGES, **storage)
        file["y"] = LABELS
    with h5py.File(tmp_path / "main.h5", "w") as file:
        file["other"] = np.full(5000, 255, np.uint8)
        file["data"] = h5py.ExternalLink("far/pixels.h5", "x")
        file["labels"] = h5py.ExternalLink("far/pixels.h5", "y")
    if storage:
        readers = [from_hdf5(tmp_path / "main.h5", tmp_path / "out.lds", progress=False)]
        np.testing.assert_array_equal(readers[0].images, IMAGES)
        image, label = HDF5Dataset(tmp_path / "main.h5")[3]
        np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), IMAGES[3])
        assert label == 3
        return
    for images, labels in all_ways(tmp_path / "main.h5", tmp_path / "out.lds"):
        np.testing.assert_array_equal(images, IMAGES)
        np.testing.assert_array_equal(labels, LABELS)
    before = lds.open(tmp_path / "main.h5").identity
    os.utime(tmp_path / "far" / "pixels.h5", (1, 1))
    assert lds.open(tmp_path / "main.h5").identity != before
    (tmp_path / "far" / "pixels.h5").unlink()
    for read in (lds.open, HDF5Dataset, lambda path: from_hdf5(path, tmp_path / "none.lds")):
        with pytest.raises(StoreError, match=r"'data' is a link to 'x' of far/pixels\.h5, which is not there"):
            read(tmp_path / "main.h5")


@pytest.mark.parametrize("change", ["moved", "shorter", "other"])
def test_a_joined_part_that_changed(tmp_path: Path, change: str) -> None:
    """HDF5 itself would give black images with label 0."""
    for i in range(2):
        write_hdf5(tmp_path / f"{i}.h5", IMAGES, LABELS)
    joined = join_hdf5([tmp_path / "0.h5", tmp_path / "1.h5"], tmp_path / "joined.h5")
    assert len(from_hdf5(joined, tmp_path / "whole.lds", progress=False)) == 18
    (tmp_path / "1.h5").rename(tmp_path / "elsewhere.h5")
    if change == "shorter":
        write_hdf5(tmp_path / "1.h5", IMAGES[:5], LABELS[:5])
    if change == "other":
        with h5py.File(tmp_path / "1.h5", "w") as file:
            file["x"] = IMAGES
    messages = {
        "moved": r"takes rows from 1\.h5, which is not there",
        "shorter": r"found \(5,",
        "other": "no such dataset",
    }
    for read in (HDF5Dataset, lambda path: from_hdf5(path, tmp_path / "out.lds", progress=False)):
        with pytest.raises(StoreError, match=messages[change]):
            read(joined)
    assert not (tmp_path / "out.lds").exists()


def test_import_of_several_files_keeps_its_options(tmp_path: Path) -> None:
    for i in range(2):
        with h5py.File(tmp_path / f"{i}.h5", "w") as file:
            file["train/x"], file["train/y"] = IMAGES, LABELS + i
    arguments = ["import", str(tmp_path / "0.h5"), str(tmp_path / "1.h5"), str(tmp_path / "out.lds"), "--quiet"]
    done = CliRunner().invoke(app, [*arguments, "--images", "train/x", "--labels", "/train/y"])
    assert done.exit_code == 0, done.output
    store = lds.open(tmp_path / "out.lds")
    np.testing.assert_array_equal(np.asarray(store.images), np.concatenate([IMAGES, IMAGES]))
    np.testing.assert_array_equal(np.asarray(store["label"]), np.concatenate([LABELS, LABELS + 1]))


def test_neighbours_that_cannot_be_fields_are_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["data"], file["labels"], file["age"] = IMAGES, LABELS, LABELS * 2
        boxes = file.create_dataset("boxes", (9,), h5py.vlen_dtype(np.int32))
        boxes[0] = [1, 2, 3]
        file["a b"] = LABELS
    with pytest.warns(UserWarning, match="left out as fields: 'a b', 'boxes'"):
        assert lds.open(tmp_path / "x.h5").fields == ("label", "age")
    with pytest.warns(UserWarning, match="'boxes'"):
        assert from_hdf5(tmp_path / "x.h5", tmp_path / "out.lds", progress=False).fields == ("label", "age")
    with pytest.raises(ArgumentError, match="'boxes' is of variable length"):
        lds.open(tmp_path / "x.h5", labels="boxes")


@pytest.mark.parametrize("storage", [{}, {"chunks": True, "compression": "gzip"}])
def test_images_and_labels_in_two_files(tmp_path: Path, storage: dict[str, Any]) -> None:
    """As PatchCamelyon has them, with labels of shape (N, 1, 1, 1)."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = IMAGES
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file.create_dataset("y", data=LABELS.reshape(9, 1, 1, 1).astype(np.uint8), **storage)
    names = {"images": "x", "labels": f"{tmp_path / 'y.h5'}:y"}
    for images, labels in all_ways(tmp_path / "x.h5", tmp_path / "out.lds", **names):
        np.testing.assert_array_equal(images, IMAGES)
        np.testing.assert_array_equal(labels, LABELS)
        assert labels.shape == (9,)
    store = pickle.loads(pickle.dumps(lds.open(tmp_path / "x.h5", **names)))
    np.testing.assert_array_equal(store["label"], LABELS)
    [(_, labels)] = lds.Loader(store, 9)
    np.testing.assert_array_equal(labels, LABELS)
    with pytest.raises(ArgumentError, match="has no dataset 'z'"):
        lds.open(tmp_path / "x.h5", images="x", labels=f"{tmp_path / 'y.h5'}:z")


def test_labels_in_memory_stay_with_a_loader_that_alone_has_the_store(tmp_path: Path) -> None:
    """The memory file of compressed labels is known by a descriptor, which goes with the store."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["data"] = np.repeat(IMAGES, 30, 0)
        file.create_dataset("labels", data=np.arange(270), compression="gzip")
    for prefetch in (0, 3):
        batches = iter(lds.Loader(lds.open(tmp_path / "x.h5"), 8, prefetch=prefetch))
        gc.collect()
        with open(tmp_path / "other", "w+b") as other:  # takes the descriptor that would be free
            other.write(b"\x07" * 4096)
            other.flush()
            labels = np.concatenate([labels.numpy() for _, labels in batches])
        np.testing.assert_array_equal(labels, np.arange(270))
    rows = lds.open(tmp_path / "x.h5").field_rows("label")
    gc.collect()
    assert rows.read([9]).view(np.int64).item() == 9


def test_threads_that_first_use_labels_in_memory(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["data"] = IMAGES
        file.create_dataset("labels", data=LABELS, compression="gzip")
    for _ in range(30):
        store = lds.open(tmp_path / "x.h5")
        with ThreadPoolExecutor(4) as pool:
            rows = list(pool.map(lambda _, store=store: store.field_rows("label"), range(4)))
        assert [one.read([5]).view(np.int64).item() for one in rows] == [5, 5, 5, 5]


def test_a_missing_part_of_a_part(tmp_path: Path) -> None:
    for i in range(4):
        write_hdf5(tmp_path / f"{i}.h5", IMAGES, LABELS)
    halves = [join_hdf5([tmp_path / f"{i}.h5", tmp_path / f"{i + 1}.h5"], tmp_path / f"half{i}.h5") for i in (0, 2)]
    whole = join_hdf5(halves, tmp_path / "whole.h5")
    assert len(HDF5Dataset(whole)) == 36
    (tmp_path / "3.h5").unlink()
    for read in (HDF5Dataset, lambda path: from_hdf5(path, tmp_path / "out.lds", progress=False)):
        with pytest.raises(StoreError, match=r"half2\.h5.* takes rows from 3\.h5, which is not there"):
            read(whole)


def test_a_missing_dataset_of_the_same_file(tmp_path: Path) -> None:
    layout = h5py.VirtualLayout(IMAGES.shape, np.uint8)
    layout[:] = h5py.VirtualSource(".", "gone", IMAGES.shape)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_virtual_dataset("data", layout)
    with pytest.raises(StoreError, match="expected dataset 'gone' of shape"):
        HDF5Dataset(tmp_path / "x.h5")


@pytest.mark.parametrize("kind", ["joined", "linked"])
def test_a_file_of_the_same_name_elsewhere_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """HDF5 looks into the current directory, too."""
    (tmp_path / "here").mkdir()
    (tmp_path / "data").mkdir()
    write_hdf5(tmp_path / "data" / "a.h5", IMAGES, LABELS)
    if kind == "joined":
        path = join_hdf5([tmp_path / "data" / "a.h5"], tmp_path / "data" / "main.h5")
    else:
        path = tmp_path / "data" / "main.h5"
        with h5py.File(path, "w") as file:
            file["data"] = h5py.ExternalLink("a.h5", "data")
    (tmp_path / "data" / "a.h5").unlink()
    write_hdf5(tmp_path / "here" / "a.h5", IMAGES * 0, LABELS * 0)
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(StoreError, match=r"a\.h5, which is not there"):
        HDF5Dataset(path)


def test_labels_of_another_file_stay_the_same_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, first in (("a", 0), ("b", 70)):
        (tmp_path / folder).mkdir()
        with h5py.File(tmp_path / folder / "y.h5", "w") as file:
            file.create_dataset("y", data=LABELS + first, compression="gzip")
    with h5py.File(tmp_path / "a" / "x.h5", "w") as file:
        file["x"] = IMAGES
    monkeypatch.chdir(tmp_path / "a")
    dataset = HDF5Dataset("x.h5", "x", "y.h5:y")
    pickled = pickle.dumps(lds.open("x.h5", images="x", labels="y.h5:y"))
    monkeypatch.chdir(tmp_path / "b")
    assert dataset[1][1] == 1
    assert pickle.loads(pickled)["label"][1] == 1
