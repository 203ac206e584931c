"""store -> HDF5 -> store is byte-identical, in order; h5py and h5dump read what we write."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import largeds_native as lds
import largeds_native.errors
from largeds_native.interchange import hdf5_import
from tests.builders.stores import assert_equal_stores, make_random_store, write_hdf5
from tests.strategies import store_arguments

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
    store = make_random_store(folder / "a.lds", **arguments)
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
        make_random_store(tmp_path / "a.lds")
    store = lds.open(tmp_path / "a.lds")
    (tmp_path / "a.h5").unlink(missing_ok=True)
    with h5py.File(store.to_hdf5(tmp_path / "a.h5", indices=indices, **storage)) as file:
        np.testing.assert_array_equal(file["data"][()], np.asarray(store.images)[indices])
        np.testing.assert_array_equal(file["labels"][()], np.asarray(store["label"])[indices])


@pytest.mark.parametrize("layout", ["CHW", "HWC"])
@pytest.mark.parametrize("storage", STORAGE[:4])
def test_normalised(tmp_path: Path, layout: str, storage: dict[str, Any]) -> None:
    shape = (3, 4, 5) if layout == "CHW" else (4, 5, 3)
    store = make_random_store(tmp_path / "a.lds", shape=shape, layout=layout)
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
    store = make_random_store(tmp_path / "a.lds")
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
    store = make_random_store(tmp_path / "a.lds", n=5, shape=(1, 2, 3))
    path = store.to_hdf5(tmp_path / "a.h5", **storage)
    shown = subprocess.run(
        ["h5dump", "-y", "-w", "100000", str(path)], capture_output=True, text=True, check=True
    ).stdout
    numbers = shown[shown.index('DATASET "data"') :].split("DATA {")[1].split("}")[0]
    assert [int(word) for word in numbers.replace(",", " ").split()] == np.asarray(store.images).reshape(-1).tolist()
    subprocess.run(["h5stat", str(path)], capture_output=True, check=True)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
@pytest.mark.parametrize("layout", ["CHW", "HWC"])
@pytest.mark.skipif(shutil.which("h5dump") is None, reason="h5dump is not installed (Debian: hdf5-tools)")
def test_h5dump_finds_our_bytes_and_h5stat_our_storage(tmp_path: Path, dtype: str, layout: str) -> None:
    store = make_random_store(
        tmp_path / "a.lds", n=5, dtype=dtype, layout=layout, shape=(3, 4, 5)[:: 1 if layout == "CHW" else -1]
    )
    storages = (("a", {}, "CONTIGUOUS"), ("b", {"layout": "chunked", "chunk_images": 2}, "CHUNKED ( 2, "))
    for name, storage, shown in storages:
        path = store.to_hdf5(tmp_path / f"{name}.h5", **storage)  # type: ignore[arg-type]
        for dataset, values in (("data", store.images), ("labels", store["label"])):
            if dtype == "float16" and dataset == "data":
                continue  # h5dump writes no binary of half floats
            out = tmp_path / f"{name}.{dataset}"
            subprocess.run(["h5dump", "-d", dataset, "-b", "LE", "-o", out, path], capture_output=True, check=True)
            assert out.read_bytes() == np.asarray(values).tobytes()
        header = subprocess.run(
            ["h5dump", "-pH", "-d", "data", path], capture_output=True, text=True, check=True
        ).stdout
        assert shown in header
        stat = subprocess.run(["h5stat", path], capture_output=True, text=True, check=True).stdout
        contiguous, chunked = (1, 1) if storage else (2, 0)
        assert f"Dataset layout counts[CHUNKED]: {chunked}" in stat
        assert f"Dataset layout counts[CONTIG]: {contiguous}" in stat


@pytest.mark.parametrize("name", ["Zstd", "Blosc2", "LZ4"])
def test_filters_of_hdf5plugin(tmp_path: Path, name: str) -> None:
    hdf5plugin = pytest.importorskip("hdf5plugin")
    store = make_random_store(tmp_path / "a.lds", n=7)
    compression = getattr(hdf5plugin, name)()
    path = store.to_hdf5(tmp_path / "a.h5", layout="chunked", chunk_images=3, compression=compression)
    with h5py.File(path) as file:
        assert str(compression.filter_id) in file["data"]._filters
    assert_equal_stores(lds.from_hdf5(path, tmp_path / "b.lds"), store)
    images = torch.stack([image for image, _ in lds.HDF5Dataset(path).__getitems__([6, 0, 3])])
    np.testing.assert_array_equal(images.numpy(), np.asarray(store.images)[[6, 0, 3]])


def test_each_chunk_is_read_once_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (10, 3, 4, 4), np.uint8)
    path = write_hdf5(tmp_path / "a.h5", images, chunks=(3, 3, 4, 2), compression="gzip")
    asked: list[slice] = []
    read = hdf5_import.read_rows

    def counted(data: Any, rows: slice) -> Any:
        asked.append(rows)
        return read(data, rows)

    monkeypatch.setattr(hdf5_import, "read_rows", counted)
    monkeypatch.setattr(hdf5_import, "BLOCK_BYTES", 7 * 48)  # two chunks of rows and a bit
    store = lds.from_hdf5(path, tmp_path / "a.lds", labels=None)
    assert asked == [slice(0, 6), slice(6, 12)]
    np.testing.assert_array_equal(store.images, images)


def test_what_the_attributes_tell(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 6, 6), np.uint8)
    source = (pixels, np.arange(4) % 2)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    store = lds.pack(
        source, tmp_path / "a.lds", resize=None, crop=None, mean=mean, std=std, dtype="float32", progress=False
    )
    with h5py.File(store.to_hdf5(tmp_path / "a.h5")) as file:
        data = file["data"].attrs
        assert (data["layout"], tuple(data["mean"]), tuple(data["std"])) == ("CHW", mean, std)
        assert file.attrs["store"] == store.identity
        assert json.loads(file.attrs["options"]) == store.manifest["options"]
        assert json.loads(file.attrs["libraries"]) == store.manifest["libraries"]
        first = dict(file["data"].attrs)
    again = lds.from_hdf5(tmp_path / "a.h5", tmp_path / "b.lds")
    assert (again.mean, again.std) == (mean, std)
    with h5py.File(again.to_hdf5(tmp_path / "b.h5")) as file:
        assert {name: list(value) for name, value in file["data"].attrs.items()} == {
            n: list(v) for n, v in first.items()
        }
        assert json.loads(file.attrs["options"]) == store.manifest["options"]


def test_a_bar_on_a_terminal_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    store = make_random_store(tmp_path / "a.lds")
    store.to_hdf5(tmp_path / "a.h5", progress=True)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    store.to_hdf5(tmp_path / "b.h5", progress=True)
    assert "export" in capsys.readouterr().err
    lds.from_hdf5(tmp_path / "b.h5", tmp_path / "b.lds", progress=False)
    assert capsys.readouterr() == ("", "")


def test_progress_and_classes_too_many_for_an_attribute(tmp_path: Path) -> None:
    classes = tuple(f"class {i}" for i in range(5000))
    store = make_random_store(tmp_path / "a.lds", classes=classes)
    calls: list[tuple[int, int]] = []
    store.to_hdf5(tmp_path / "a.h5", progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (7, 7)
    assert lds.from_hdf5(tmp_path / "a.h5", tmp_path / "b.lds").classes == list(classes)
    assert lds.open(tmp_path / "a.h5").classes == list(classes)


def test_parts_joined_by_a_virtual_dataset(tmp_path: Path) -> None:
    store = make_random_store(tmp_path / "a.lds", fields={"label": np.arange(7), "box": np.arange(14).reshape(7, 2)})
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
