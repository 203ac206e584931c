from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.datasets import ImageFolder

from largeds_native.errors import ArgumentError, PackError
from largeds_native.sources import IndexedSource, ShuffledSource, folder


def samples_of(source: IndexedSource) -> list[tuple[str, int]]:
    batches = list(source.read(0, source.count))
    items = [str(item) for batch in batches for item in batch.items]
    return list(zip(items, np.concatenate([batch.fields["label"] for batch in batches]).tolist(), strict=True))


NAME = st.sampled_from(["a", "b", "B", "a.b", "é", "10", "9", "x y", ".h"])
FILE = st.sampled_from(["1.png", "2.JPG", "10.jpeg", "Z.webp", "a.txt", ".png", ".h.png", "x.png.txt", "é.bmp", "n"])


@given(st.lists(st.tuples(st.lists(NAME, min_size=1, max_size=3), FILE), min_size=1, max_size=12))
@settings(max_examples=30, deadline=None)
def test_tree_is_image_folders(tmp_path_factory: pytest.TempPathFactory, tree: list[tuple[list[str], str]]) -> None:
    root = tmp_path_factory.mktemp("tree")
    for folders, name in tree:
        path = root.joinpath(*folders)
        path.mkdir(parents=True, exist_ok=True)
        (path / name).touch()
    try:
        expected = ImageFolder(str(root))
    except FileNotFoundError:  # a class without an image
        return
    found = folder(root)
    assert isinstance(found, IndexedSource)
    assert samples_of(found) == expected.samples
    assert list(found.classes) == expected.classes


def test_a_class_without_images_keeps_its_number(tmp_path: Path) -> None:
    for name in ("a", "b", "c", ".git"):
        (tmp_path / name).mkdir()
    (tmp_path / "c/1.png").touch()
    (tmp_path / "top.png").touch()
    source = folder(tmp_path)
    assert source.classes == ("a", "b", "c")
    assert samples_of(source) == [(str(tmp_path / "c/1.png"), 2)]  # type: ignore[arg-type]


def test_flat_folder_has_no_labels(tmp_path: Path) -> None:
    for name in ("2.png", "10.jpg", "note.txt"):
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    source = folder(tmp_path)
    assert source.fields == {}
    assert source.classes == ()
    (batch,) = source.read(0, 2)
    assert batch.names == ["10.jpg", "2.png"]
    assert batch.fields == {}


@pytest.mark.timeout(20)
def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    (tmp_path / "tree/a/deep").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/1.png").touch()
    (tmp_path / "tree/a/0.png").touch()
    (tmp_path / "tree/a/deep/loop").symlink_to(tmp_path / "tree/a")
    (tmp_path / "tree/a/self").symlink_to(".")
    (tmp_path / "tree/a/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "tree/b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "tree/a/gone.png").symlink_to(tmp_path / "nowhere")
    source = folder(tmp_path / "tree")
    (batch,) = source.read(0, 4)
    assert batch.names == ["a/0.png", "a/gone.png", "a/link/1.png", "b/1.png"]


def test_names_that_are_not_text(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    name = os.fsencode(tmp_path / "a") + b"/\xff\xfe.png"
    with open(name, "wb"):
        pass
    (batch,) = folder(tmp_path).read(0, 1)
    assert os.fsencode(str(batch.items[0])) == name


def test_fingerprints_of_different_lists_differ(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.png").touch()
    before = folder(tmp_path).fingerprint()
    assert folder(tmp_path).fingerprint() == before
    (tmp_path / "a/2.png").touch()
    after = folder(tmp_path).fingerprint()
    assert after != before
    (tmp_path / "a/2.png").rename(tmp_path / "a/3.png")
    assert folder(tmp_path).fingerprint() not in (before, after)


def test_shuffled_is_a_permutation(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for i in range(50):
        (tmp_path / f"a/{i}.png").touch()
    source = folder(tmp_path)
    assert isinstance(source, IndexedSource)
    first, second = samples_of(ShuffledSource(source, 1)), samples_of(ShuffledSource(source, 2))
    assert sorted(first) == sorted(second) == sorted(samples_of(source))
    assert first != second
    assert ShuffledSource(source, 1).fingerprint() != ShuffledSource(source, 2).fingerprint()


@pytest.mark.parametrize("below", ["", "train"])
def test_a_folder_of_tar_shards(tmp_path: Path, below: str) -> None:
    (tmp_path / below).mkdir(exist_ok=True)
    for number in range(3):
        (tmp_path / below / f"{number}.tar").touch()
    with pytest.raises(PackError, match=rf"has no image: its 3 tar files are packed by a pattern, '.*{below}/\*\.tar'"):
        folder(tmp_path)


def test_no_image_at_all(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="has no image"):
        folder(tmp_path)
    with pytest.raises(ArgumentError, match="No such file"):
        folder(tmp_path / "none")
