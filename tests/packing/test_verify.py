from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import largeds_native as lds
from largeds_native.errors import ArgumentError, PackError, StoreError
from largeds_native.packing import verify_sources
from tests.builders.trees import make_tree, smooth_pixels

SMALL: dict[str, Any] = {"resize": 16, "crop": 12, "progress": False, "shard_bytes": 5 * 3 * 12 * 12}


def flip_byte(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def test_damaged_rows_are_named(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree")
    store = lds.pack(tmp_path / "tree", tmp_path / "store", **SMALL)
    assert store.verify().ok
    assert "all 12 rows" in str(store.verify(threads=1))
    flip_byte(store.shards[0].path / "images.npy", 4096 + 3 * 432 + 431)
    flip_byte(store.shards[2].path / "images.npy", 4096)
    result = lds.open(store.path).verify()
    assert not result.ok
    assert result.damaged == (3, 10)
    assert result.damaged_shards == ()
    assert "2 of 12 rows are damaged: 3, 10" in str(result)


def test_damaged_fields_are_named(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree")
    store = lds.pack(tmp_path / "tree", tmp_path / "store", **SMALL)
    flip_byte(store.shards[1].path / "label.npy", 4096)
    result = lds.open(store.path).verify()
    assert result.damaged_shards == ("shard-00001",)
    samples = store.shards[0].path / "samples.parquet"
    samples.write_bytes(samples.read_bytes()[:-9])
    with pytest.raises(StoreError, match=r"samples\.parquet can't be read"):
        lds.open(store.path).verify()


def test_a_copied_store_says_what_was_changed(tmp_path: Path) -> None:
    """Nothing in a store depends on its place or on the times of its files."""
    make_tree(tmp_path / "tree")
    store = lds.pack(tmp_path / "tree", tmp_path / "store", **SMALL)
    copy = Path(shutil.copytree(store.path, tmp_path / "elsewhere/store"))
    assert lds.open(copy).verify().ok
    flip_byte(store.shards[0].path / "images.npy", 4096 + 432)
    flip_byte(store.shards[2].path / "label.npy", 4096)
    changed = Path(shutil.copytree(store.path, tmp_path / "elsewhere/changed"))
    shutil.rmtree(store.path)
    assert lds.open(copy).verify().ok
    result = lds.open(changed).verify()
    assert result.damaged == (1,)
    assert result.damaged_shards == ("shard-00002",)


def test_a_copied_store_whose_sources_were_changed(tmp_path: Path) -> None:
    """The copy is as it was packed, is not taken for one of the changed images, and says which of them differ."""
    paths = make_tree(tmp_path / "tree")
    store = lds.pack(tmp_path / "tree", tmp_path / "store", **SMALL)
    copy = Path(shutil.copytree(store.path, tmp_path / "elsewhere/store"))
    paths[3].write_bytes(paths[4].read_bytes())
    assert lds.open(copy).verify().ok
    assert verify_sources(lds.open(copy)).different == (f"{paths[3].parent.name}/{paths[3].name}",)
    with pytest.raises(PackError, match=r"holds a finished store, and (1 of its images changed|the files of the)"):
        lds.pack(tmp_path / "tree", copy, **SMALL)


@pytest.mark.parametrize("more", [{}, {"dtype": "float16", "shuffle": 3}, {"layout": "HWC", "mode": "L"}])
def test_sources_decode_to_the_same(tmp_path: Path, more: dict[str, Any]) -> None:
    from PIL import Image

    paths = make_tree(tmp_path / "tree")
    paths[1].write_bytes(b"rotten")
    store = lds.pack(tmp_path / "tree", tmp_path / "store", **SMALL, **more)
    result = verify_sources(store)
    assert result.ok
    assert result.checked == 12
    Image.fromarray(smooth_pixels(99)).save(paths[6])
    paths[8].unlink()
    paths[8].symlink_to("nowhere.webp")
    result = verify_sources(store, tmp_path / "tree")
    assert sorted(result.different) == sorted(f"{p.parent.name}/{p.name}" for p in (paths[6], paths[8]))
    paths[8].unlink()
    with pytest.raises(StoreError, match="expected a source of 12 samples, found 11"):
        verify_sources(store)


def test_sources_of_arrays(tmp_path: Path) -> None:
    images = np.stack([smooth_pixels(i) for i in range(7)])
    store = lds.pack((images, np.arange(7)), tmp_path / "s", resize=None, crop=None, progress=False)
    with pytest.raises(ArgumentError, match="does not record where"):
        verify_sources(store)
    assert verify_sources(store, (images, np.arange(7))).ok
    images[4] += 1
    assert verify_sources(store, (images, np.arange(7))).different == ("#4",)
