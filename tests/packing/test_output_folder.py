"""A pack removes only what a pack has written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torchvision.datasets import ImageFolder

import largeds_native as lds
from largeds_native.errors import ArgumentError, PackError
from tests.builders.trees import make_tree
from tests.packing.test_resume import begin

SMALL: dict[str, Any] = {"resize": 16, "crop": 12, "progress": False, "shard_bytes": 2 * 3 * 12 * 12}


def all_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("resume", [True, False])
def test_folders_that_are_only_named_like_shards(tmp_path: Path, resume: bool) -> None:
    make_tree(tmp_path / "tree")
    (tmp_path / "mine/shard-00001").mkdir(parents=True)
    (tmp_path / "mine/shard-00001/thesis.txt").touch()
    for source, out in ((tmp_path / "tree", tmp_path / "mine"), (tmp_path / "tree", tmp_path / "tree")):
        before = all_files(out)
        with pytest.raises(PackError, match=r"is not a store \(it holds"):
            lds.pack(source, out, resume=resume, **SMALL)
        assert all_files(out) == before


@pytest.mark.parametrize("resume", [True, False])
def test_a_file_of_the_users_in_an_unfinished_shard(tmp_path: Path, resume: bool) -> None:
    make_tree(tmp_path / "tree")
    begin(tmp_path / "tree", tmp_path / "out", 3)
    (tmp_path / "out/shard-00001/notes.txt").touch()
    before = all_files(tmp_path / "out")
    with pytest.raises(PackError, match=r"shard-00001 holds 'notes\.txt', which is no part of a shard: move it"):
        lds.pack(tmp_path / "tree", tmp_path / "out", resume=resume, **SMALL)
    assert all_files(tmp_path / "out") == before
    (tmp_path / "out/shard-00001/notes.txt").unlink()
    assert len(lds.pack(tmp_path / "tree", tmp_path / "out", resume=resume, **SMALL)) == 12


def test_a_store_lies_beside_its_images(tmp_path: Path) -> None:
    make_tree(tmp_path / "a/tree")
    (tmp_path / "link").symlink_to(tmp_path / "a/tree")
    for source in (tmp_path / "a/tree", ImageFolder(str(tmp_path / "a/tree"))):
        for out in (tmp_path / "a/tree/out", tmp_path / "link/class0/out"):
            with pytest.raises(ArgumentError, match=r"out: .*out lies inside of .*tree, .*choose a folder beside it"):
                lds.pack(source, out, **SMALL)
            assert not out.exists()
    begin(tmp_path / "a/tree", tmp_path / "out", 1)
    (tmp_path / "a/tree").rename(tmp_path / "out/tree")
    with pytest.raises(ArgumentError, match=r"out: .*out contains .*tree"):
        lds.pack(tmp_path / "out/tree", tmp_path / "out", **SMALL)
    (tmp_path / "out/tree/list.csv").write_text("path\nclass0/0000.png\n")
    assert len(lds.pack(tmp_path / "out/tree/list.csv", tmp_path / "out/tree/list.lds", **SMALL)) == 1
