"""What is left out of a store is said: images, columns, classes; too much of it is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import largeds_native as lds
from largeds_native.errors import ArgumentError, DecodeError, PackError, StoreError
from largeds_native.packing.failures import allowed_failures
from largeds_native.sources import arrays, folder, tar
from tests.builders.trees import make_tree, smooth_pixels
from tests.packing.test_pack import files_of
from tests.sources.test_tar import make_tar

SMALL: dict[str, Any] = {"resize": 16, "crop": 12, "progress": False, "shard_bytes": 5 * 3 * 12 * 12}


def test_one_image_of_another_shape_ends_the_pack(tmp_path: Path) -> None:
    paths = make_tree(tmp_path / "tree")
    Image.fromarray(smooth_pixels(1, 40, 20)).save(paths[7], format="PNG")
    with pytest.raises(
        PackError, match=r"class1/0003\.png: .*one shape.* 16 x 24: say crop=\.\.\., or resize=\(height"
    ):
        lds.pack(tmp_path / "tree", tmp_path / "out", resize=16, crop=None, progress=False)
    assert len(lds.pack(tmp_path / "tree", tmp_path / "exact", resize=(16, 16), progress=False)) == 12


def spoiled_tree(root: Path, bad: int) -> Path:
    for path in make_tree(root)[:bad]:
        path.write_bytes(b"rotten")
    return root


def test_too_many_failures_make_no_store(tmp_path: Path) -> None:
    tree = spoiled_tree(tmp_path / "tree", 3)
    with pytest.raises(
        PackError, match=r"3 of the 12 .*max_failures=0\.01 allows 1.*shards are kept.*max_failures=3"
    ) as caught:
        lds.pack(tree, tmp_path / "out", **SMALL)
    assert "0000.png" in str(caught.value)
    with pytest.raises(StoreError, match="is an unfinished pack"):
        lds.open(tmp_path / "out")
    store = lds.pack(tree, tmp_path / "out", max_failures=3, **SMALL)
    assert store.report is not None
    assert store.report.resumed_shards == 3
    whole = lds.pack(tree, tmp_path / "whole", max_failures=0.5, **SMALL)
    assert files_of(store.path) == files_of(whole.path)


@pytest.mark.parametrize(("bad", "allowed", "fits"), [(1, 0.01, True), (1, 0.0, False), (1, 0, False), (2, 2, True)])
def test_shares_and_counts(tmp_path: Path, bad: int, allowed: float, fits: bool) -> None:
    tree = spoiled_tree(tmp_path / "tree", bad)
    if fits:
        assert len(lds.pack(tree, tmp_path / "out", max_failures=allowed, **SMALL)) == 12 - bad
    else:
        with pytest.raises(PackError, match="failed, and max_failures"):
            lds.pack(tree, tmp_path / "out", max_failures=allowed, **SMALL)


@pytest.mark.parametrize("value", [-1, 1.5, True, "5", float("nan")])
def test_max_failures_is_checked(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ArgumentError, match=r"max_failures: expected a share from 0\.0 to 1\.0 or a count"):
        lds.pack(spoiled_tree(tmp_path / "tree", 0), tmp_path / "out", max_failures=value, **SMALL)


def test_a_validation_folder_that_lacks_a_class(tmp_path: Path) -> None:
    make_tree(tmp_path / "train")
    make_tree(tmp_path / "val")
    train = lds.pack(tmp_path / "train", tmp_path / "train.lds", **SMALL)
    (tmp_path / "val/class0").rename(tmp_path / "elsewhere")
    for name, classes in (("a", train), ("b", train.classes)):
        val = lds.pack(tmp_path / "val", tmp_path / name, classes=classes, **SMALL)
        assert val.classes == train.classes
        assert val["label"][:].tolist() == [1] * 4 + [2] * 4
    shuffled = lds.pack(folder(tmp_path / "val", classes=train), tmp_path / "c", shuffle=1, **SMALL)
    assert sorted(shuffled["label"][:].tolist()) == [1] * 4 + [2] * 4
    with pytest.raises(ArgumentError, match="has the class 'class2', expected one of class0, class1"):
        lds.pack(tmp_path / "val", tmp_path / "d", classes=["class0", "class1"], **SMALL)
    for wrong in ("class0", [], [1, 2], 3):
        with pytest.raises(ArgumentError, match="classes: expected names, or a store"):
            folder(tmp_path / "val", classes=wrong)
    with pytest.raises(PackError, match="another job"):
        lds.pack(tmp_path / "val", tmp_path / "a", **SMALL)


def test_labels_without_names_count_as_classes(tmp_path: Path) -> None:
    paths = make_tree(tmp_path / "tree", 1, 3)
    members = {f"{i}{path.suffix}": path.read_bytes() for i, path in enumerate(paths)}
    members |= {f"{i}.cls": str(label).encode() for i, label in enumerate((0, 2, 1))}
    source = make_tar(tmp_path / "x.tar", members)
    store = lds.pack(source, tmp_path / "out", **SMALL)
    assert store.classes == ["0", "1", "2"]
    assert lds.pack(tar(source, classes=["a", "b", "c"]), tmp_path / "names", **SMALL).classes == ["a", "b", "c"]
    with pytest.raises(ArgumentError, match=r"x\.tar:1 .*expected a label below 2, the number of classes, found 2"):
        lds.pack(source, tmp_path / "few", classes=["a", "b"], **SMALL)
    images = np.zeros((2, 12, 12, 3), np.uint8)
    for i, labels in enumerate(([-1, 1], [0, 1 << 40])):
        assert (
            lds.pack((images, np.array(labels)), tmp_path / f"no{i}", resize=None, crop=None, progress=False).classes
            == []
        )


def test_columns_that_are_left_out_are_in_the_report(tmp_path: Path) -> None:
    paths = make_tree(tmp_path / "tree", 1, 1)
    (tmp_path / "list.csv").write_text(f"path,label,caption\n{paths[0].relative_to(tmp_path)},1,a picture\n")
    report = lds.pack(tmp_path / "list.csv", tmp_path / "out", **SMALL).report
    assert report is not None
    assert any(note.startswith("columns left out: caption") for note in report.notes)
    assert "caption" in str(report)
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    data = datasets.Dataset.from_dict({"image": [{"path": str(paths[0]), "bytes": None}], "caption": ["x"]}, features)
    report = lds.pack(data, tmp_path / "hf", **SMALL).report
    assert report is not None
    assert report.notes == ("columns left out: caption",)


def test_pictures_in_a_field_are_not_left_behind(tmp_path: Path) -> None:
    images, masks = np.zeros((3, 12, 16, 3), np.uint8), np.zeros((3, 12, 16), np.uint8)
    source = arrays(images, [0, 1, 2], fields={"mask": masks})
    kept: dict[str, Any] = {"resize": None, "crop": None, "progress": False}
    for options in ({**SMALL}, {**kept, "augment": lds.Augment(flip=0.5)}):
        with pytest.raises(ArgumentError, match=r"field 'mask': its values .* are pictures"):
            lds.pack(source, tmp_path / "bad", **options)
    store = lds.pack(source, tmp_path / "out", **kept)
    with pytest.raises(ArgumentError, match="augment: field 'mask' holds pictures"):
        lds.Loader(store, 2, augment=lds.Augment(flip=0.5), fields=("mask",))
    for options in ({"fields": ("mask",)}, {"augment": lds.Augment(flip=0.5)}):
        lds.Loader(store, 2, **options).close()


@pytest.mark.parametrize("finished", [True, False])
def test_what_a_run_before_left_out_counts(tmp_path: Path, finished: bool) -> None:
    tree = spoiled_tree(tmp_path / "tree", 3)
    if finished:
        lds.pack(tree, tmp_path / "out", max_failures=3, **SMALL)
        assert len(lds.pack(tree, tmp_path / "out", max_failures=0.25, **SMALL)) == 9
    words = "3 failed" if finished else "12 images of .* failed"
    with pytest.raises(PackError, match=rf"{words}, and max_failures=2 allows 2: .*class0/0000"):
        lds.pack(tree, tmp_path / "out", max_failures=2, **SMALL)
    with pytest.raises(DecodeError, match=r"class0/0000\.png.*; it failed when an earlier run packed .*shard-00000"):
        lds.pack(tree, tmp_path / "out", on_error="raise", max_failures=3, **SMALL)


def test_a_share_is_the_number_that_was_written() -> None:
    shares = [(0.07, 100, 7), (0.29, 100, 29), (0.01, 101, 2), (0.01, 12, 1), (1.0, 5, 5), (0.0, 5, 0)]
    assert [allowed_failures(share, total) for share, total, _ in shares] == [allowed for *_, allowed in shares]
    assert allowed_failures(np.float64(0.07), 100) == 7


def test_folders_that_a_newcomer_packs(tmp_path: Path) -> None:
    """A flat one has no labels, and one above the classes has the wrong ones; both are allowed, and noted."""
    make_tree(tmp_path / "photos" / "train", 1, 2)
    make_tree(tmp_path / "photos" / "val", 1, 2)
    notes = {
        name: lds.pack(tmp_path / name, tmp_path / f"out{i}", **SMALL).report.notes  # type: ignore[union-attr]
        for i, name in enumerate(("photos", "photos/train", "photos/train/class0"))
    }
    assert notes == {
        "photos": ("the classes are train, val: to pack one of these parts, give its folder",),
        "photos/train": (),
        "photos/train/class0": ("no labels: the images lie in the folder itself, not in one folder per class",),
    }


def test_images_beside_the_folders_of_classes_and_of_other_formats(tmp_path: Path) -> None:
    paths = make_tree(tmp_path / "tree", 1, 2)
    for name in ("2.png", "3.png", "class0/4.GIF", "class0/5.jfif", "class0/6.gif"):
        (tmp_path / "tree" / name).write_bytes(paths[0].read_bytes())
    report = lds.pack(tmp_path / "tree", tmp_path / "out", **SMALL).report
    assert report is not None
    assert report.total == 2
    (note,) = report.notes
    assert sorted(note.removeprefix("images left out: ").split(", ")) == [
        "1 .jfif",
        "2 .gif",
        "2 beside the folders of classes",
    ]
    (tmp_path / "gifs/a").mkdir(parents=True)
    (tmp_path / "gifs/a/1.gif").touch()
    with pytest.raises(PackError, match=r"has no image: .*; found 1 \.gif"):
        folder(tmp_path / "gifs")


IMAGES = np.zeros((3, 12, 12, 3), np.uint8)


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (["a", "b"], r"#2 of arrays.*expected a label below 2, the number of classes, found 5: name every class"),
        ("ab", "classes: expected names, or a store that has classes, found 'ab'"),
        (["a", "a"], "expected each name once"),
    ],
)
def test_classes_of_arrays_are_checked(tmp_path: Path, classes: Any, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        lds.pack(arrays(IMAGES, [0, 1, 5], classes=classes), tmp_path / "out", resize=None, crop=None, progress=False)


class Data:
    """A dataset that names its classes."""

    def __init__(self, *classes: str) -> None:
        self.classes = list(classes)

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        return IMAGES[index], index


def test_classes_of_datasets_are_checked(tmp_path: Path) -> None:
    kept: dict[str, Any] = {"resize": None, "crop": None, "progress": False}
    with pytest.raises(ArgumentError, match="#2 of dataset Data: expected a label below 2"):
        lds.pack(Data("a", "b"), tmp_path / "few", **kept)
    with pytest.raises(ArgumentError, match="dataset Data: expected each class once, found 2 named 'a'"):
        lds.pack(Data("a", "b", "a"), tmp_path / "twice", **kept)
    assert lds.pack(Data("a", "b", "c"), tmp_path / "out", **kept).classes == ["a", "b", "c"]


def test_labels_of_64_bits_without_a_sign() -> None:
    with pytest.raises(ArgumentError, match=r"label: expected labels below 2\*\*63, found 18446744073709551615 at ind"):
        arrays(IMAGES, np.array([0, 2**64 - 1, 1], np.uint64))
    assert arrays(IMAGES, np.array([0, 2, 1], np.uint64)).fields["label"].dtype == np.int64
