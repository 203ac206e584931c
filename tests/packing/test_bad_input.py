"""Sources that disappear or can't be read during a pack."""

from __future__ import annotations

import io
import os
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import largeds_native as lds
from largeds_native.errors import ArgumentError, PackError, StoreError
from largeds_native.sources import folder, tar
from tests.builders.trees import make_tree

SMALL: dict[str, Any] = {"resize": 16, "crop": 12, "max_failures": 1.0, "progress": False}


def failures(store: Any) -> dict[str, str]:
    assert store.report is not None
    return {failure.source: failure.reason for failure in store.report.failures}


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    paths = make_tree(tmp_path / "tree")
    (tmp_path / "tree/class0/dangling.png").symlink_to("nowhere")
    os.mkfifo(tmp_path / "tree/class1/pipe.jpg")
    (tmp_path / "tree/class2/folder.jpg").mkdir()
    source = folder(tmp_path / "tree")
    paths[2].unlink()  # after the scan
    store = lds.pack(source, tmp_path / "out", **SMALL)
    assert failures(store) == {"class0/0002.webp": "io", "class0/dangling.png": "io", "class1/pipe.jpg": "io"}
    assert len(store) == 11
    assert all(str(tmp_path) not in failure.error for failure in store.report.failures)  # type: ignore[union-attr]


def test_no_permission(tmp_path: Path) -> None:
    paths = make_tree(tmp_path / "tree")
    paths[0].chmod(0)
    if os.access(paths[0], os.R_OK):
        pytest.skip("root may read everything")
    assert failures(lds.pack(tmp_path / "tree", tmp_path / "out", **SMALL)) == {"class0/0000.png": "io"}


def test_a_whole_source_that_disappears(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree")
    source = folder(tmp_path / "tree")
    (tmp_path / "tree").rename(tmp_path / "elsewhere")
    with pytest.raises(PackError, match=r"none of the 12 images .* could be packed: 12 io"):
        lds.pack(source, tmp_path / "out", **SMALL)
    with pytest.raises(StoreError):
        lds.open(tmp_path / "out")


def make_tar(path: Path, paths: list[Path]) -> Path:
    with tarfile.open(path, "w") as archive:
        for i, image in enumerate(paths):
            data = image.read_bytes()
            info = tarfile.TarInfo(f"{i:03d}{image.suffix}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_a_tar_that_is_truncated_after_the_scan(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "x.tar", make_tree(tmp_path / "tree"))
    source = tar(path)
    os.truncate(path, path.stat().st_size // 2)
    store = lds.pack(source, tmp_path / "out", **SMALL)
    found = failures(store)
    assert 0 < len(found) < 12
    assert set(found.values()) == {"truncated"}
    path.unlink()
    with pytest.raises(PackError, match="12 io"):
        lds.pack(source, tmp_path / "gone", **SMALL)


class Cell:
    """A minimal Hugging Face dataset: rows, features, and a cast of the image column."""

    def __init__(self, paths: list[Path], decode: bool = True) -> None:
        self.paths, self.decode = paths, decode
        self.features: dict[str, Any] = {"image": None, "label": SimpleNamespace(names=["a", "b", "c"])}

    def cast_column(self, name: str, feature: Any) -> Cell:
        assert name == "image"
        return Cell(self.paths, feature.decode)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        assert not self.decode
        inside = index % 2 == 0
        data = self.paths[index].read_bytes() if inside else None
        return {"image": {"bytes": data, "path": None if inside else str(self.paths[index])}, "label": index // 4}


def test_hugging_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(Image=lambda decode: SimpleNamespace(decode=decode)))
    paths = make_tree(tmp_path / "tree")
    expected = lds.pack(tmp_path / "tree", tmp_path / "plain", **SMALL)
    store = lds.pack(Cell(paths), tmp_path / "out", **SMALL)
    np.testing.assert_array_equal(store.images, expected.images)
    np.testing.assert_array_equal(store["label"][:], expected["label"][:])
    assert store.classes == ["a", "b", "c"]
    bare = Cell(paths)
    bare.features.pop("image")
    with pytest.raises(ArgumentError, match="expected a column 'image', found label"):
        lds.pack(bare, tmp_path / "bad", **SMALL)
