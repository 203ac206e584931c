"""Every kind of source packs to the same store."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms import ToTensor

import largeds_native as lds
from largeds_native.errors import ArgumentError, PackError
from largeds_native.sources import encoded
from tests.builders.trees import make_tree

SMALL: dict[str, Any] = {"resize": 16, "crop": 12, "progress": False, "shard_bytes": 5 * 3 * 12 * 12}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path], Any]:
    root = tmp_path_factory.mktemp("data")
    paths = make_tree(root / "tree")
    return root, paths, lds.pack(root / "tree", root / "store", **SMALL)


def assert_same(store: Any, expected: Any, tolerance: int = 0) -> None:
    difference = np.asarray(store.images).astype(int) - np.asarray(expected.images)
    assert np.abs(difference).max() <= tolerance
    np.testing.assert_array_equal(store["label"][:], expected["label"][:])


def test_csv(tree: Any, tmp_path: Path) -> None:
    root, paths, expected = tree
    lines = [f"tree/{path.parent.name}/{path.name},{path.parent.name},{i / 2}" for i, path in enumerate(paths)]
    (root / "list.csv").write_text("\n".join(["path,label,half", *lines]))
    store = lds.pack(root / "list.csv", tmp_path / "out", **SMALL)
    assert_same(store, expected)
    np.testing.assert_array_equal(store["half"][:], np.arange(12) / 2)
    assert store.classes == expected.classes


def test_tar(tree: Any, tmp_path: Path) -> None:
    _, paths, expected = tree
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for i, path in enumerate(paths):
            for name, data in ((f"{i:03d}{path.suffix}", path.read_bytes()), (f"{i:03d}.cls", str(i // 4).encode())):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    assert_same(lds.pack(tmp_path / "x.tar", tmp_path / "out", **SMALL), expected)
    assert_same(lds.pack([tmp_path / "x.tar"], tmp_path / "out2", **SMALL), expected)


class Pictures(Dataset[Any]):
    classes = ("class0", "class1", "class2")

    def __init__(self, paths: list[Path], kind: str) -> None:
        self.paths, self.kind = paths, kind

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        image = Image.open(self.paths[index]).convert("RGB")
        label: Any = index // 4
        if self.kind == "array":
            return np.asarray(image), np.int32(label)
        if self.kind == "tensor":
            return torch.from_numpy(np.array(image)).permute(2, 0, 1), torch.tensor(label)
        if self.kind == "float":
            return ToTensor()(image), label
        return image, label


@pytest.mark.parametrize("kind", ["pil", "array", "tensor", "float"])
def test_torch_dataset(tree: Any, tmp_path: Path, kind: str) -> None:
    _, paths, expected = tree
    store = lds.pack(Pictures(paths, kind), tmp_path / "out", **SMALL)
    assert_same(store, expected)
    assert store.classes == expected.classes


def test_image_folder(tree: Any, tmp_path: Path) -> None:
    root, _, expected = tree
    store = lds.pack(ImageFolder(str(root / "tree")), tmp_path / "out", **SMALL)
    assert_same(store, expected)
    assert store.report is not None
    assert store.report.decoders == {"core": 12}


def test_a_subset_of_an_image_folder_keeps_the_names(tree: Any, tmp_path: Path) -> None:
    root, _, expected = tree
    chosen = Subset(Subset(ImageFolder(str(root / "tree")), range(2, 12)), [0, 3, 9])
    store = lds.pack(chosen, tmp_path / "out", **SMALL)
    assert store.classes == expected.classes
    assert store["label"][:].tolist() == expected["label"][[2, 5, 11]].tolist()
    np.testing.assert_array_equal(store.images, expected.images[[2, 5, 11]])


@pytest.mark.parametrize("kind", [list, tuple])
def test_two_paths_are_no_pair_of_arrays(tree: Any, tmp_path: Path, kind: Any) -> None:
    _, paths, expected = tree
    store = lds.pack(kind(paths[:2]), tmp_path / "out", **SMALL)
    np.testing.assert_array_equal(store.images, expected.images[:2])
    with pytest.raises(ArgumentError, match="folders are packed one at a time"):
        lds.pack(kind([tmp_path, tmp_path]), tmp_path / "other", **SMALL)


def test_iterables(tree: Any, tmp_path: Path) -> None:
    _, paths, expected = tree

    class Bytes:
        def __iter__(self) -> Iterator[tuple[bytes, int]]:
            return ((path.read_bytes(), i // 4) for i, path in enumerate(paths))

    assert_same(lds.pack(Bytes(), tmp_path / "a", **SMALL), expected)
    assert_same(lds.pack(iter(Bytes()), tmp_path / "b", **SMALL), expected)
    assert_same(lds.pack(encoded(list(Bytes())), tmp_path / "c", **SMALL), expected)
    assert_same(lds.pack(list(Bytes()), tmp_path / "d", **SMALL), expected)
    assert lds.pack(Bytes(), tmp_path / "e", resize=None, crop=None, progress=False).shape == (3, 20, 30)


def test_bad_samples(tree: Any, tmp_path: Path) -> None:
    _, paths, _ = tree
    with pytest.raises(ArgumentError, match="sample 1: expected a label that is a whole number"):
        lds.pack(encoded([(paths[0].read_bytes(), 1), (b"", "dog")]), tmp_path / "a", **SMALL)  # type: ignore[list-item]
    with pytest.raises(ArgumentError, match=r"expected \(bytes, label\), found int"):
        lds.pack(encoded([(3, 1)]), tmp_path / "b", **SMALL)  # type: ignore[list-item]
    with pytest.raises(ArgumentError, match="found complex128 of shape"):
        lds.pack([(np.full((4, 4, 3), 7j), 1)], tmp_path / "c0", **SMALL)
    with pytest.raises(
        PackError, match="expected floats from 0 to 1, found 7 to 7: dtype='float32', without mean and std, keeps them"
    ):
        lds.pack([(np.full((4, 4, 3), 7.0), 1)], tmp_path / "c", **SMALL)
    with pytest.raises(ArgumentError, match="found int"):
        lds.pack(3, tmp_path / "d", **SMALL)
    with pytest.raises(ArgumentError, match="any order"):
        lds.pack(iter([(b"", 1)]), tmp_path / "e", shuffle=1, **SMALL)


def test_shuffled(tree: Any, tmp_path: Path) -> None:
    root, _, expected = tree
    store = lds.pack(root / "tree", tmp_path / "out", shuffle=3, **SMALL)
    order = [expected.samples["source"].to_pylist().index(name) for name in store.samples["source"].to_pylist()]
    assert sorted(order) == list(range(12))
    assert order != list(range(12))
    np.testing.assert_array_equal(store.images, np.asarray(expected.images)[order])
    np.testing.assert_array_equal(store["label"][:], np.asarray(expected["label"])[order])


def test_hugging_face_itself(tree: Any, tmp_path: Path) -> None:
    """The real package, with files by path and as bytes, shuffled; and errors for unsupported datasets."""
    datasets = pytest.importorskip("datasets")
    _, paths, expected = tree
    cells = [
        {"path": str(path), "bytes": None} if i % 2 else {"path": None, "bytes": path.read_bytes()}
        for i, path in enumerate(paths)
    ]
    columns = {"image": cells, "label": [int(label) for label in expected["label"][:]]}
    label = datasets.ClassLabel(names=list(expected.classes))
    data = datasets.Dataset.from_dict(columns, datasets.Features({"image": datasets.Image(), "label": label}))
    store = lds.pack(data, tmp_path / "all", **SMALL)
    assert_same(store, expected)
    assert store.classes == expected.classes
    some = lds.pack(data.select([7, 2, 5]), tmp_path / "some", **SMALL)
    np.testing.assert_array_equal(some.images, np.asarray(expected.images)[[7, 2, 5]])
    with pytest.raises(ArgumentError, match="streaming IterableDataset: pass an iterable of"):
        lds.pack(data.to_iterable_dataset(), tmp_path / "stream", **SMALL)
    with pytest.raises(ArgumentError, match="found a mapping of several: train, test; pass one of them"):
        lds.pack(datasets.DatasetDict(train=data, test=data), tmp_path / "splits", **SMALL)
