"""Each bad file, dataset and option: a clear error, and no file left behind under the final name."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import largeds_native as lds
from largeds_native.errors import ArgumentError, LargedsError, StorageError, StoreError
from largeds_native.interchange import copying, hdf5_export
from tests.attacks import hdf5 as attacks
from tests.attacks.hdf5 import IMAGES
from tests.builders.stores import make_random_store, write_hdf5

ROOT = Path(__file__).parents[2]


READERS = (lambda path: lds.open(path), lambda path: lds.HDF5Dataset(path).__getitems__([0]))


def assert_unreadable(path: Path, error: type[Exception], message: str) -> None:
    """Neither opened where it lies nor read by HDF5Dataset."""
    for reader in READERS:
        with pytest.raises(error, match=message):
            reader(path)


def assert_import_refused(path: Path, out: Path, error: type[Exception], message: str, **options: Any) -> None:
    before = set(out.parent.iterdir())
    with pytest.raises(error, match=message):
        lds.from_hdf5(path, out, **options)
    assert set(out.parent.iterdir()) == before


def test_datasets(tmp_path: Path) -> None:
    out = tmp_path / "out.lds"
    attacks.write_odd_datasets(tmp_path / "a.h5")
    for images, message in (
        ("missing", "has no dataset 'missing'; its datasets are: 'data'"),
        ("group", "has no dataset 'group'"),
        ("flat", r"expected shape \(N, C, H, W\)"),
        ("four", "an axis of 1 to 32 channels"),
        ("wide", "expected uint8"),
        ("none", "is empty"),
        ("ragged", "variable length"),
        ("double", "pass dtype='float32'"),
    ):
        assert_import_refused(tmp_path / "a.h5", out, ArgumentError, message, images=images, labels=None)
    message = r"expected 5 values, one per image, found shape \(4,\)"
    assert_import_refused(tmp_path / "a.h5", out, ArgumentError, message, labels="short")
    write_hdf5(tmp_path / "b.h5", IMAGES.reshape(5, -1))
    write_hdf5(tmp_path / "c.h5", IMAGES, name="images")
    write_hdf5(tmp_path / "d.h5", IMAGES, np.arange(4))
    write_hdf5(tmp_path / "e.h5", IMAGES, np.arange(6))
    attacks.write_ragged(tmp_path / "f.h5")
    assert_unreadable(tmp_path / "b.h5", ArgumentError, r"expected shape \(N, C, H, W\)")
    assert_unreadable(tmp_path / "c.h5", ArgumentError, "has no dataset 'data'; its datasets are: 'images'")
    assert_unreadable(tmp_path / "d.h5", ArgumentError, r"expected 5 values, one per image, found shape \(4,\)")
    assert_unreadable(tmp_path / "e.h5", ArgumentError, r"expected 5 values, one per image, found shape \(6,\)")
    assert_unreadable(tmp_path / "f.h5", ArgumentError, "variable length")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file["ragged"]  # which can't become a field
    assert lds.from_hdf5(tmp_path / "a.h5", out, "double", None, dtype="float16").dtype == np.float16


def test_files(tmp_path: Path) -> None:
    out = tmp_path / "out.lds"
    good = write_hdf5(tmp_path / "good.h5", IMAGES, np.arange(5))
    attacks.write_unreadable_files(tmp_path, good)
    assert_unreadable(tmp_path / "text.h5", StoreError, "is not an HDF5 file")
    assert_unreadable(tmp_path / "cut.h5", StoreError, "is cut off")
    assert_unreadable(tmp_path / "absent.h5", LargedsError, "does not exist|no such file")
    assert_import_refused(tmp_path / "text.h5", out, StoreError, "is not an HDF5 file")
    assert_import_refused(tmp_path / "empty.h5", out, StoreError, "HDF5")
    assert_import_refused(tmp_path / "cut.h5", out, StoreError, "is cut off: HDF5 expects more bytes")
    assert_import_refused(tmp_path / "folder.h5", out, StoreError, "is a folder")
    assert_import_refused(tmp_path / "absent.h5", out, StorageError, "no such file")
    command = [sys.executable, "-m", "tests.programs.hold_hdf5_open", str(good)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        assert_import_refused(good, out, StorageError, "open for writing elsewhere")
        assert_unreadable(good, StorageError, "open for writing elsewhere")
        process.communicate(b"\n")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "a.h5", IMAGES)
    path.chmod(0)
    assert_import_refused(path, tmp_path / "out.lds", StorageError, "Permission denied")


def test_outputs(tmp_path: Path) -> None:
    store = make_random_store(tmp_path / "a.lds")
    good = store.to_hdf5(tmp_path / "a.h5")
    size = good.stat().st_size
    with pytest.raises(ArgumentError, match="exists: choose another file"):
        store.to_hdf5(good)
    assert good.stat().st_size == size
    assert_import_refused(good, tmp_path / "a.lds", ArgumentError, "exists: choose another folder")
    with pytest.raises(ArgumentError, match="is not a folder"):
        store.to_hdf5(tmp_path / "no" / "b.h5")


def test_options(tmp_path: Path) -> None:
    store = make_random_store(tmp_path / "a.lds")
    options: list[tuple[dict[str, Any], str]] = [
        ({"layout": "tiled"}, "expected 'contiguous' or 'chunked', found 'tiled'"),
        ({"compression": "gzip"}, "needs layout='chunked'"),
        ({"layout": "chunked", "chunk_images": 0}, "chunk_images"),
        ({"layout": "chunked", "compression": "brotli"}, "expected a filter that is installed"),
        ({"indices": [7]}, "expected row numbers from 0 to 6, found 7"),
        ({"indices": [-1]}, "found -1"),
        ({"indices": []}, "indices"),
        ({"indices": [0.5]}, "found float64"),
        ({"normalize": ((0.5,), (0.5,))}, "expected 3 means"),
        ({"normalize": ((0, 0, 0), (1, 0, 1))}, "positive"),
    ]
    for option, message in options:
        with pytest.raises(ArgumentError, match=message):
            store.to_hdf5(tmp_path / "a.h5", **option)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.lds"]


@pytest.mark.parametrize("layout", ["contiguous", "chunked"])
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str) -> None:
    store = make_random_store(tmp_path / "a.lds")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(hdf5_export, "copy_range", full)
    monkeypatch.setattr(hdf5_export, "_write_chunks", full)
    with pytest.raises(StorageError, match=r"can't be written: No space left on device; [\d,]+ bytes are free"):
        store.to_hdf5(tmp_path / "a.h5", layout=layout)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.lds"]


@pytest.mark.parametrize("tiny_disk", ["128k"], indirect=True)
def test_a_disk_that_is_full_indeed(tmp_path: Path, tiny_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5_export, "BLOCK_BYTES", 20_000)  # so that it comes in the middle
    store = make_random_store(tmp_path / "a.lds", n=50, shape=(3, 32, 32))
    storages: list[dict[str, Any]] = [
        {},
        {"indices": range(49, -1, -1)},
        {"layout": "chunked"},
        {"layout": "chunked", "chunk_images": 4, "compression": "gzip"},
        {"layout": "chunked", "chunk_images": 4, "compression": "lzf"},
        {"normalize": ((0.5,) * 3, (0.2,) * 3)},
    ]
    for storage in storages:
        with pytest.raises(StorageError, match=r"can't be written: .*No space left on device.* bytes are free"):
            store.to_hdf5(tiny_disk / "a.h5", **storage)
        assert list(tiny_disk.iterdir()) == [], storage
    path = store.to_hdf5(tmp_path / "a.h5")
    assert lds.join_hdf5([path], tiny_disk / "a.h5").exists()
    (tiny_disk / "filler").write_bytes(bytes(120_000))
    (tiny_disk / "a.h5").unlink()
    with pytest.raises(StorageError, match="No space left on device"):
        lds.join_hdf5([path], tiny_disk / "a.h5")
    (tiny_disk / "filler").unlink()
    assert_import_refused(path, tiny_disk / "b.lds", StorageError, "disk is full|No space left")


def test_a_filter_that_is_not_installed(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "a.h5", IMAGES, chunks=(1, 3, 4, 4), shuffle=True)
    if not attacks.replace_shuffle_filter(path):
        pytest.skip("this HDF5 writes its filters another way")
    assert_import_refused(
        path, tmp_path / "out.lds", StoreError, "filter that is not installed; type: pip install", labels=None
    )
    with pytest.raises(StoreError, match="filter that is not installed; type: pip install"):
        lds.HDF5Dataset(path)[0]
    with pytest.raises(ArgumentError, match="can't be mapped: import it with"):
        lds.open(path)


def test_a_store_cut_while_it_is_exported(tmp_path: Path) -> None:
    store = make_random_store(tmp_path / "a.lds", n=3)
    reader = copying.RowReader(store)
    images = store.shards[0].path / "images.npy"
    images.write_bytes(images.read_bytes()[:-1])
    with pytest.raises(StorageError, match="truncated while it was read"):
        reader.read(np.arange(3))


def test_parts_that_do_not_fit_together(tmp_path: Path) -> None:
    first = make_random_store(tmp_path / "a.lds").to_hdf5(tmp_path / "a.h5")
    second = make_random_store(tmp_path / "b.lds", shape=(3, 4, 4)).to_hdf5(tmp_path / "b.h5")
    with pytest.raises(ArgumentError, match="expected the datasets of"):
        lds.join_hdf5([first, second], tmp_path / "all.h5")
    with pytest.raises(LargedsError, match="at least one"):
        lds.join_hdf5([], tmp_path / "all.h5")
    with pytest.raises(ArgumentError, match="exists: choose another file"):
        lds.join_hdf5([first], second)
    assert not (tmp_path / "all.h5").exists()
