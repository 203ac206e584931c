"""The corpora have the documented sizes, quality, subsampling and classes, and reproducible bytes."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin
from sklearn.datasets import load_digits

from largeds_native._internal import corpus
from largeds_native.errors import ArgumentError, LargedsError


def fingerprint(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def jpegs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus.jpeg_corpus(tmp_path_factory.mktemp("corpus") / "jpeg", 60)


def test_jpegs_are_spread_like_imagenet(jpegs: Path) -> None:
    files = sorted(jpegs.rglob("*.jpg"))
    assert len(files) == 60
    sizes, samplings = set(), set()
    for path in files:
        with Image.open(path) as image:
            sizes.add(image.size)
            samplings.add(JpegImagePlugin.get_sampling(image))
    assert sizes == {(500, 375), (375, 500), (1024, 768)}
    assert samplings == {0, 2}  # 4:4:4 and 4:2:0
    assert 70_000 < sum(path.stat().st_size for path in files) / len(files) < 140_000
    assert len(list(jpegs.iterdir())) == len(corpus.PHOTOGRAPHS)


def test_a_corpus_is_the_same_each_time_and_for_any_length(jpegs: Path, tmp_path: Path) -> None:
    again = fingerprint(corpus.jpeg_corpus(tmp_path / "again", 20))
    whole = fingerprint(jpegs)
    assert again == {name: whole[name] for name in again}
    assert fingerprint(corpus.jpeg_corpus(tmp_path / "other", 20, seed=1)) != again


def test_an_existing_corpus_is_reused(tmp_path: Path) -> None:
    folder = corpus.jpeg_corpus(tmp_path / "jpeg", 3)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert {path: path.stat().st_mtime_ns for path in corpus.jpeg_corpus(folder, 3).rglob("*")} == before
    assert len(list(corpus.jpeg_corpus(folder, 4).rglob("*.jpg"))) == 4  # another one replaces it


def test_a_folder_of_the_users_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ArgumentError, match="not a corpus of largeds"):
        corpus.jpeg_corpus(tmp_path, 3)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_photos_have_twelve_megapixels(tmp_path: Path) -> None:
    (path,) = corpus.photo_corpus(tmp_path / "photos", 1).rglob("*.jpg")
    with Image.open(path) as image:
        assert image.size == (4000, 3000)


def test_digits_are_scikit_learns(tmp_path: Path) -> None:
    files = sorted(corpus.digits_tree(tmp_path / "digits").rglob("*.png"), key=lambda path: path.name)
    pixels, labels = load_digits(return_X_y=True)
    assert [int(path.parent.name) for path in files] == labels.tolist()
    for path, expected in zip(files[::97], pixels[::97], strict=True):
        with Image.open(path) as image:
            np.testing.assert_array_equal(np.asarray(image), np.minimum(expected.reshape(8, 8) * 16, 255))


def test_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArgumentError, match="at least 1, found 0"):
        corpus.jpeg_corpus(tmp_path / "none", 0)
    monkeypatch.setattr(corpus.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LargedsError, match=r"scikit-learn, which is not installed; type: pip install"):
        corpus.digits_tree(tmp_path / "digits")
    assert list(tmp_path.iterdir()) == []
