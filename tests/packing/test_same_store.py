"""A folder that holds a store, or a part of one, answers only for the data that it was packed from."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

import largeds_native as lds
from largeds_native.errors import ArgumentError, PackError
from largeds_native.sources import arrays, table
from tests.builders.trees import make_tree
from tests.packing.test_resume import begin
from tests.sources.test_tar import make_tar

SMALL: dict[str, Any] = {"resize": 16, "crop": 12, "progress": False, "shard_bytes": 2 * 3 * 12 * 12}
EXACT: dict[str, Any] = {"resize": None, "crop": None, "progress": False, "shard_bytes": 2 * 48}


class Values:
    """A dataset of images of one value each."""

    def __init__(self, *values: int) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> Any:
        return np.full((4, 4, 3), self.values[index], np.uint8), index


class Encoded:
    """An iterable of files' bytes."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        return ((path.read_bytes(), i) for i, path in enumerate(self.paths))


def test_an_iterable_is_never_taken_for_another(tmp_path: Path) -> None:
    paths = make_tree(tmp_path / "tree")
    lds.pack(Encoded(paths[:2]), tmp_path / "out", **SMALL)
    with pytest.raises(PackError, match=r"finished store, and nothing tells .* iterable of encoded images.*key='"):
        lds.pack(Encoded(paths[3:6]), tmp_path / "out", **SMALL)


def test_a_dataset_is_never_taken_for_another(tmp_path: Path) -> None:
    lds.pack(Values(10, 50), tmp_path / "out", **EXACT)
    for resume in (True, False):
        with pytest.raises(PackError, match="holds a finished store"):
            lds.pack(Values(10, 90), tmp_path / "out", resume=resume, **EXACT)


def test_a_key_names_the_data(tmp_path: Path) -> None:
    first = lds.pack(Values(10, 50), tmp_path / "out", key="first", **EXACT)
    assert lds.pack(Values(10, 50), tmp_path / "out", key="first", **EXACT).identity == first.identity
    for key in ("second", None):
        with pytest.raises(PackError, match="holds a finished store"):
            lds.pack(Values(10, 90), tmp_path / "out", key=key, **EXACT)
    with pytest.raises(ArgumentError, match="key: expected a text that names the data"):
        lds.pack(Values(1), tmp_path / "other", key="", **EXACT)


class Stops(Values):
    """Interrupted at its fourth sample."""

    def __getitem__(self, index: int) -> Any:
        if index == 3:
            raise KeyboardInterrupt
        return super().__getitem__(index)


def test_an_unfinished_pack_of_a_dataset(tmp_path: Path) -> None:
    for key, words in ((None, "begin again with resume=False"), ("mine", "run the same pack again")):
        with pytest.raises(KeyboardInterrupt, match=words):
            lds.pack(Stops(*range(6)), tmp_path / f"out-{key}", key=key, **EXACT)
    with pytest.raises(PackError, match=r"unfinished pack, and nothing tells .*resume=False.*key='"):
        lds.pack(Values(*range(10, 16)), tmp_path / "out-None", **EXACT)
    with pytest.raises(PackError, match="key was 'mine', is now 'yours'"):
        lds.pack(Values(*range(10, 16)), tmp_path / "out-mine", key="yours", **EXACT)
    store = lds.pack(Values(*range(10, 16)), tmp_path / "out-None", resume=False, **EXACT)
    assert store.images[:, 0, 0, 0].tolist() == list(range(10, 16))
    store = lds.pack(Values(*range(6)), tmp_path / "out-mine", key="mine", **EXACT)
    assert store.report is not None
    assert store.report.resumed_shards == 1
    assert store.images[:, 0, 0, 0].tolist() == list(range(6))


def test_arrays_that_differ_in_one_pixel(tmp_path: Path) -> None:
    images = np.zeros((3000, 5, 5, 3), np.uint8)
    before = arrays(images).fingerprint()
    images[1001, 3, 4, 2] = 1
    assert arrays(images).fingerprint() != before


def test_files_that_changed_after_the_pack(tmp_path: Path) -> None:
    paths = make_tree(tmp_path / "tree")
    lds.pack(tmp_path / "tree", tmp_path / "out", **SMALL)
    lds.pack(tmp_path / "tree", tmp_path / "out", **SMALL)
    later = os.stat(tmp_path / "out/shard-00000/shard.json").st_mtime_ns + 10**9
    paths[1].write_bytes(paths[4].read_bytes())
    while paths[1].stat().st_ctime_ns <= later - 10**9:
        paths[1].touch()
    with pytest.raises(PackError, match=r"1 of its images changed since .*'class0/0001\.jpg'"):
        lds.pack(tmp_path / "tree", tmp_path / "out", **SMALL)


@pytest.mark.parametrize("finished", [True, False])
def test_another_folder_with_the_same_names(tmp_path: Path, finished: bool) -> None:
    make_tree(tmp_path / "a")
    make_tree(tmp_path / "b")
    if finished:
        lds.pack(tmp_path / "a", tmp_path / "out", **SMALL)
    else:
        begin(tmp_path / "a", tmp_path / "out", 2)
    with pytest.raises(PackError, match=rf"{tmp_path}/a.*{tmp_path}/b"):
        lds.pack(tmp_path / "b", tmp_path / "out", **SMALL)


def test_a_key_lets_files_move(tmp_path: Path) -> None:
    make_tree(tmp_path / "a")
    store = lds.pack(tmp_path / "a", tmp_path / "out", key="v1", **SMALL)
    shutil.move(tmp_path / "a", tmp_path / "b")
    assert lds.pack(tmp_path / "b", tmp_path / "out", key="v1", **SMALL).identity == store.identity


def one_image(path: Path, value: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(path, format="BMP")
    return path


def swapped_folders(top: Path) -> Any:
    one_image(top / "data/c/1.bmp", 10)
    one_image(top / "other/c/1.bmp", 200)
    yield top / "data"
    (top / "data").rename(top / "old")
    (top / "other").rename(top / "data")
    yield top / "data"


def linked_file(top: Path) -> Any:
    paths = [one_image(top / f"{value}.bmp", value) for value in (10, 200)]
    (top / "data/c").mkdir(parents=True)
    (top / "data/c/1.bmp").symlink_to(paths[0])
    yield top / "data"
    (top / "data/c/1.bmp").unlink()
    (top / "data/c/1.bmp").symlink_to(paths[1])
    yield top / "data"


def linked_folder(top: Path) -> Any:
    for value in (10, 200):
        one_image(top / f"{value}/c/1.bmp", value)
    (top / "data").symlink_to(top / "10")
    yield top / "data"
    (top / "data").unlink()
    (top / "data").symlink_to(top / "200")
    yield top / "data"


def tars_of_several_folders(top: Path) -> Any:
    paths = [make_tar(top / f"{i}.tar", {"x.bmp": one_image(top / f"{i}.bmp", i).read_bytes()}) for i in (1, 20, 200)]
    for path, folder in zip(paths, "abc", strict=True):
        (top / folder).mkdir()
        path.rename(top / folder / ("0.tar" if folder == "a" else "1.tar"))
    yield [top / "a/0.tar", top / "b/1.tar"]
    yield [top / "a/0.tar", top / "c/1.tar"]


def hugging_face_paths(top: Path) -> Any:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    cells = {"image": [str(one_image(top / "1.bmp", 10))], "label": [0]}
    data = datasets.Dataset.from_dict(cells, features=features)
    yield data
    one_image(top / "1.bmp", 200)
    yield data


SWAPS = [swapped_folders, linked_file, linked_folder, tars_of_several_folders, hugging_face_paths]


@pytest.mark.parametrize("swap", SWAPS)
def test_other_files_of_the_same_names(tmp_path: Path, swap: Any) -> None:
    sources = swap(tmp_path)
    source = next(sources)
    store = lds.pack(source, tmp_path / "out", **EXACT)
    assert lds.pack(source, tmp_path / "out", **EXACT).identity == store.identity
    source = next(sources)
    with pytest.raises(PackError, match=r"finished store, and (1 of its images|the files of the .* are not those)"):
        lds.pack(source, tmp_path / "out", **EXACT)
    assert lds.pack(source, tmp_path / "fresh", **EXACT).images[-1].max() == 200


def test_an_unfinished_pack_of_swapped_folders(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree")
    make_tree(tmp_path / "other")
    begin(tmp_path / "tree", tmp_path / "out", 2)
    (tmp_path / "tree").rename(tmp_path / "old")
    (tmp_path / "other").rename(tmp_path / "tree")
    with pytest.raises(PackError, match=r"unfinished pack, and the files of the folder .* are not those that were"):
        lds.pack(tmp_path / "tree", tmp_path / "out", **SMALL)


def test_a_store_without_its_report_is_not_known_again(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree")
    (lds.pack(tmp_path / "tree", tmp_path / "out", **SMALL).path / "report.json").unlink()
    with pytest.raises(PackError, match="finished store, and the files of"):
        lds.pack(tmp_path / "tree", tmp_path / "out", **SMALL)


def test_image_folders_own_samples_count(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree", 2, 1)
    data = ImageFolder(str(tmp_path / "tree"))
    assert lds.pack(data, tmp_path / "out", **SMALL)["label"][:].tolist() == [0, 1]
    data.samples = [(path, 1 - label) for path, label in data.samples]
    with pytest.raises(PackError, match="finished store of another job"):
        lds.pack(data, tmp_path / "out", **SMALL)


class Named(Values):
    classes = ("cat", "dog", "fox")


def test_a_key_does_not_hide_what_is_known(tmp_path: Path) -> None:
    lds.pack(Named(1, 2), tmp_path / "out", key="x", classes=["cat", "dog", "fox"], **EXACT)
    for data, classes in (
        (Named(1, 2), ["dog", "cat", "fox"]),
        (Named(1, 2, 3), ["cat", "dog", "fox"]),
        ([np.zeros((4, 4, 3), np.uint8)] * 2, None),
    ):
        with pytest.raises(PackError, match="finished store of another job"):
            lds.pack(data, tmp_path / "out", key="x", classes=classes, **EXACT)


def test_fields_of_other_types_are_other_data() -> None:
    pandas = pytest.importorskip("pandas")
    frames = [pandas.DataFrame({"path": ["1.png"], "x": np.array([x]).astype(t)}) for x, t in ((-1, "i8"), (-1, "u8"))]
    assert table(frames[0]).fingerprint() != table(frames[1]).fingerprint()
