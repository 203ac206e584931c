"""Samples that a Dataset can't give, and sources that give something else than samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import largeds_native as lds
from largeds_native.errors import ArgumentError, DecodeError, PackError
from largeds_native.sources import arrays, encoded
from tests.builders.trees import make_tree

EXACT: dict[str, Any] = {"resize": None, "crop": None, "progress": False}


def gray(value: int) -> Any:
    return np.full((4, 4, 3), value, np.uint8)


class Breaks:
    """A dataset of which one sample is not there."""

    def __init__(self, bad: int, what: Callable[[], Any], count: int = 4) -> None:
        self.bad, self.what, self.count = bad, what, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return self.what() if index == self.bad else (gray(index), index)


def os_error() -> Any:
    raise OSError(5, "Input/output error", "/data/2.jpg")


def key_error() -> Any:
    raise KeyError("no such annotation")


@pytest.mark.parametrize(
    ("bad", "what", "words"),
    [
        (0, os_error, "the dataset raised OSError: [Errno 5] Input/output error: '/data/2.jpg'"),
        (0, lambda: (None, 1), "no image (None)"),
        (2, os_error, "the dataset raised OSError: [Errno 5] Input/output error: '/data/2.jpg'"),
        (2, key_error, "the dataset raised KeyError: 'no such annotation'"),
        (2, lambda: (None, 1), "no image (None)"),
        (2, lambda: (gray(1), "dog"), "expected a label that is a whole number, found dog"),
        (2, lambda: gray(1), "expected (image, label), as the first samples are"),
    ],
)
def test_a_sample_that_can_not_be_had_is_a_failed_sample(tmp_path: Path, bad: int, what: Any, words: str) -> None:
    store = lds.pack(Breaks(bad, what), tmp_path / "out", **EXACT)
    assert store["label"][:].tolist() == [i for i in range(4) if i != bad]
    assert store.images[:, 0, 0, 0].tolist() == [i for i in range(4) if i != bad]
    assert store.report is not None
    (failure,) = store.report.failures
    assert (failure.source, failure.reason) == (f"#{bad}", "source")
    assert words in failure.error
    with pytest.raises(DecodeError, match=f"#{bad}: ") as caught:
        lds.pack(Breaks(bad, what), tmp_path / "raise", on_error="raise", **EXACT)
    assert isinstance(caught.value.__cause__, Exception)


def test_a_dataset_that_gives_nothing(tmp_path: Path) -> None:
    with pytest.raises(PackError, match=r"none of its first 1 samples can be had; sample 0: OSError"):
        lds.pack(Breaks(0, os_error, 1), tmp_path / "out", **EXACT)


def test_an_iterable_that_raises(tmp_path: Path) -> None:
    def samples(error: Exception) -> Iterator[tuple[bytes, int]]:
        yield b"", 1
        raise error

    for error in (OSError(5, "Input/output error"), ValueError("bad line")):
        with pytest.raises(PackError, match="sample 1 of the iterable of encoded images: it raised") as caught:
            lds.pack(encoded(samples(error)), tmp_path / "out", resize=4, crop=4, progress=False)
        assert caught.value.__cause__ is error


def test_a_null_image_of_hugging_face(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    paths = make_tree(tmp_path / "tree", 1, 3)
    cells = [None, *({"path": None, "bytes": path.read_bytes()} for path in paths)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    data = datasets.Dataset.from_dict({"image": cells, "label": [0, 1, 2, 3]}, features)
    store = lds.pack(data, tmp_path / "out", **EXACT)
    assert store["label"][:].tolist() == [1, 2, 3]
    assert store.report is not None
    assert store.report.failures[0].error == "sample 0: no image (None)"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ([(gray(1), 1, "more")], "found a tuple of 3 members"),
        ([{"picture": gray(1), "label": 1}], "found a dict of picture, label"),
        ([(gray(1), 1.5)], "numbers to predict are a field"),
        (([gray(1), gray(2)[:2]], [0, 1]), r"list of \(image, label\) pairs"),
    ],
)
def test_other_things_than_samples_are_said(tmp_path: Path, source: Any, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        lds.pack(source, tmp_path / "out", **EXACT)


def test_float_labels_are_a_field() -> None:
    with pytest.raises(ArgumentError, match=r"found float64; numbers to predict are a field: .*fields="):
        arrays(np.zeros((2, 4, 4, 3), np.uint8), np.zeros(2))


def test_lists_of_images(tmp_path: Path) -> None:
    paths = make_tree(tmp_path / "tree", 1, 3)
    pictures = [Image.open(path).convert("RGB") for path in paths]
    expected = lds.pack(tmp_path / "tree", tmp_path / "out", **EXACT)
    for name, source in (("a", pictures), ("b", paths), ("c", [str(path) for path in paths]), ("d", pictures[:2])):
        store = lds.pack(source, tmp_path / name, **EXACT)
        np.testing.assert_array_equal(store.images, expected.images[: len(store)])
    pairs = lds.pack([(path, 7) for path in paths], tmp_path / "e", **EXACT)
    assert pairs["label"][:].tolist() == [7, 7, 7]
