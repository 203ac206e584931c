"""store -> HDF5 -> store is byte-identical, in order; h5py and h5dump read what we write."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import largeds_native as lds
import largeds_native.errors

from .stores import assert_equal_stores, make_store, store_arguments

STORAGE: list[dict[str, Any]] = [
    {},
    {"layout": "chunked"},
    {"layout": "chunked", "chunk_images": 4},
    {"layout": "chunked", "chunk_images": 3, "compression": "gzip"},
    {"layout": "chunked", "compression": ("gzip", 1)},
    {"layout": "chunked", "chunk_images": 2, "compression": "lzf"},
]
slow = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@slow
@given(arguments=store_arguments(), storage=st.sampled_from(STORAGE))
def test_round_trip(tmp_path: Path, arguments: dict[str, Any], storage: dict[str, Any]) -> None:
    folder = tmp_path / "case"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    store = make_store(folder / "a.lds", **arguments)
    path = store.to_hdf5(folder / "a.h5", **storage)
    labels = "labels" if "label" in store.fields else None
    assert_equal_stores(lds.from_hdf5(path, folder / "b.lds", labels=labels, shard_bytes=500), store)
    with h5py.File(path) as file:  # from outside
        assert file["data"][()].tobytes() == np.asarray(store.images).tobytes()
        assert file["data"].attrs["layout"] == store.layout
        if labels:
            np.testing.assert_array_equal(file["labels"][()], store["label"])
    if not storage:
        mapped = lds.open(path)
        assert_equal_stores(mapped, store)


@slow
@given(
    indices=st.lists(st.integers(0, 6), min_size=1, max_size=12),
    storage=st.sampled_from(STORAGE[:4]),
)
def test_chosen_rows_in_their_order(tmp_path: Path, indices: list[int], storage: dict[str, Any]) -> None:
    if not (tmp_path / "a.lds").exists():
        make_store(tmp_path / "a.lds")
    store = lds.open(tmp_path / "a.lds")
    (tmp_path / "a.h5").unlink(missing_ok=True)
    with h5py.File(store.to_hdf5(tmp_path / "a.h5", indices=indices, **storage)) as file:
        np.testing.assert_array_equal(file["data"][()], np.asarray(store.images)[indices])
        np.testing.assert_array_equal(file["labels"][()], np.asarray(store["label"])[indices])


@pytest.mark.parametrize("layout", ["CHW", "HWC"])
@pytest.mark.parametrize("storage", STORAGE[:4])
def test_normalised(tmp_path: Path, layout: str, storage: dict[str, Any]) -> None:
    shape = (3, 4, 5) if layout == "CHW" else (4, 5, 3)
    store = make_store(tmp_path / "a.lds", shape=shape, layout=layout)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    store.to_hdf5(tmp_path / "a.h5", normalize=(mean, std), **storage)
    axes = (3, 1, 1) if layout == "CHW" else (3,)
    expected = (np.asarray(store.images) / 255 - np.reshape(mean, axes)) / np.reshape(std, axes)
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["data"][()], expected.astype(np.float32))
        assert file["data"].attrs["mean"].tolist() == list(mean)
    if not storage:
        opened = lds.open(tmp_path / "a.h5")
        assert opened.mean == mean
        assert opened.std == std


def test_the_same_store_gives_the_same_bytes(tmp_path: Path) -> None:
    store = make_store(tmp_path / "a.lds")
    for storage in STORAGE[:3]:
        first = store.to_hdf5(tmp_path / "1.h5", **storage).read_bytes()
        assert store.to_hdf5(tmp_path / "2.h5", **storage).read_bytes() == first
        for name in ("1.h5", "2.h5"):
            (tmp_path / name).unlink()


@pytest.mark.parametrize("storage", STORAGE)
@pytest.mark.skipif(shutil.which("h5dump") is None, reason="h5dump is not installed (Debian: hdf5-tools)")
def test_h5dump_reads_what_we_write(tmp_path: Path, storage: dict[str, Any]) -> None:
    if storage.get("compression") == "lzf":
        pytest.skip("lzf is h5py's own filter: h5dump does not have it")
    store = make_store(tmp_path / "a.lds", n=5, shape=(1, 2, 3))
    path = store.to_hdf5(tmp_path / "a.h5", **storage)
    shown = subprocess.run(
        ["h5dump", "-y", "-w", "100000", str(path)], capture_output=True, text=True, check=True
    ).stdout
    numbers = shown[shown.index('DATASET "data"') :].split("DATA {")[1].split("}")[0]
    assert [int(word) for word in numbers.replace(",", " ").split()] == np.asarray(store.images).reshape(-1).tolist()
    subprocess.run(["h5stat", str(path)], capture_output=True, check=True)


def test_progress_and_classes_too_many_for_an_attribute(tmp_path: Path) -> None:
    classes = tuple(f"class {i}" for i in range(5000))
    store = make_store(tmp_path / "a.lds", classes=classes)
    calls: list[tuple[int, int]] = []
    store.to_hdf5(tmp_path / "a.h5", progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (7, 7)
    assert lds.from_hdf5(tmp_path / "a.h5", tmp_path / "b.lds").classes == list(classes)
    assert lds.open(tmp_path / "a.h5").classes == list(classes)


def test_parts_joined_by_a_virtual_dataset(tmp_path: Path) -> None:
    store = make_store(tmp_path / "a.lds", fields={"label": np.arange(7), "box": np.arange(14).reshape(7, 2)})
    for i, shard in enumerate(store.shards):
        store.to_hdf5(tmp_path / f"part-{i}.h5", indices=range(shard.start, shard.start + shard.rows))
    parts = [tmp_path / f"part-{i}.h5" for i in range(len(store.shards))]
    joined = lds.join_hdf5(parts, tmp_path / "all.h5")
    assert_equal_stores(lds.from_hdf5(joined, tmp_path / "b.lds"), store)
    moved = tmp_path / "moved"  # the parts are found beside the joined file, wherever both go
    moved.mkdir()
    for path in (*parts, joined):
        path.rename(moved / path.name)
    with h5py.File(moved / "all.h5") as file:
        np.testing.assert_array_equal(file["data"][()], np.asarray(store.images))
    with pytest.raises(lds.errors.ArgumentError, match="virtual"):
        lds.open(moved / "all.h5")
