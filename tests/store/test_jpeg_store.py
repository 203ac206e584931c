"""A store of JPEG rows is used as any other: rows, slices, arrays, fields, statistics, pickling."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

import largeds_native as lds
from largeds_native.store import JpegStore
from tests.builders.images import pixels
from tests.builders.jpeg_rows import decoded
from tests.builders.stores import make_jpeg_store

SIZES = ((60, 80), (90, 50), (48, 48))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> JpegStore:
    """12 images of three sizes, in shards of a few rows."""
    return make_jpeg_store(tmp_path_factory.mktemp("jpeg"), sizes=SIZES, shard_bytes=16 << 10)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> JpegStore:
    """12 images of one size."""
    return make_jpeg_store(tmp_path_factory.mktemp("jpeg"), sizes=SIZES[:1], shard_bytes=16 << 10)


def expected(store: JpegStore, row: int) -> np.ndarray:
    return decoded(store.encoded(row)).transpose(2, 0, 1)


# ---- rows ----------------------------------------------------------------------------------------------------------
def test_a_row_is_decoded_as_by_pillow(many: JpegStore) -> None:
    assert len(many.shards) > 1
    for row in range(len(many)):
        image, label = many[row]
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, expected(many, row))
        assert label == row % 2
        assert tuple(many.sizes[row]) == image.shape[1:] == SIZES[row % 3]
    np.testing.assert_array_equal(many[-1][0], expected(many, 11))
    np.testing.assert_array_equal(many[np.int64(3)][0], expected(many, 3))


def test_slices_lists_and_masks_give_lists(many: JpegStore) -> None:
    mask = np.arange(12) % 3 == 1
    for key, rows in (
        (slice(2, 5), [2, 3, 4]),
        (slice(None, None, -5), [11, 6, 1]),
        ([7, 0, 7], [7, 0, 7]),
        (mask, [1, 4, 7, 10]),
    ):
        images, labels = many[key]
        assert [image.shape[1:] for image in images] == [SIZES[row % 3] for row in rows]
        for image, row in zip(images, rows, strict=True):
            np.testing.assert_array_equal(image, expected(many, row))
        np.testing.assert_array_equal(labels, [row % 2 for row in rows])
    assert many[5:5][0] == []


@pytest.mark.parametrize("row", [12, -13, [0, 12], [-13]])
def test_a_row_outside(many: JpegStore, row: object) -> None:
    with pytest.raises(lds.RowIndexError, match=r"outside of (the )?12 rows"):
        many[row]


def test_iterating(many: JpegStore) -> None:
    found = list(many)
    assert [label for _, label in found] == [row % 2 for row in range(12)]
    for row, (image, _) in enumerate(found):
        np.testing.assert_array_equal(image, expected(many, row))


def test_the_range_of_a_file(many: JpegStore) -> None:
    for row in (0, 5, 11, -1):
        path, offset, size = many.file_range(row)
        with open(path, "rb") as file:
            assert os.pread(file.fileno(), size, offset) == many.encoded(row)
    with pytest.raises(lds.RowIndexError):
        many.file_range(12)


# ---- as an array -----------------------------------------------------------------------------------------------------
def test_images_of_one_size_are_an_array(one: JpegStore) -> None:
    assert one.shape == (3, 60, 80)
    assert one.images.shape == (12, 3, 60, 80)
    array = np.asarray(one)
    np.testing.assert_array_equal(array, np.stack([expected(one, row) for row in range(12)]))
    np.testing.assert_array_equal(np.asarray(one.images, np.float32), array.astype(np.float32))
    np.testing.assert_array_equal(one.gather([3, 0]).numpy(), array[[3, 0]])


def test_images_of_many_sizes_are_none(many: JpegStore) -> None:
    joined = lds.concat([many, many])
    for use in (
        lambda: np.asarray(many),
        lambda: np.asarray(joined),
        lambda: np.asarray(many.images),
        lambda: many.images.shape,
    ):
        with pytest.raises(lds.StoreError, match=r"many sizes \(JPEG 48x48 to 90x80 .* see store\[i\]"):
            use()
    with pytest.raises(lds.StoreError, match=r"see store\.sizes"):
        many.image_size  # noqa: B018
    with pytest.raises(lds.ArgumentError, match="pass resize=256, crop=224"):
        many.gather([0])
    assert many.gather([0, 1], resize=32, crop=24).shape == (2, 3, 24, 24)
    for name in ("files", "part"):
        with pytest.raises(lds.StoreError, match=r"JPEG files, which can't be read as an array: see store\[i\]"):
            getattr(many, name)(*("images", 0)[: 1 + (name == "part")])


def test_the_layout_hwc(tmp_path: Path) -> None:
    store = make_jpeg_store(tmp_path, layout="HWC")
    np.testing.assert_array_equal(store[1][0], decoded(store.encoded(1)))


def test_grey_images(tmp_path: Path) -> None:
    store = make_jpeg_store(tmp_path, channels=1, mode="L")
    np.testing.assert_array_equal(store[1][0], decoded(store.encoded(1), "L").transpose(2, 0, 1))
    assert store.channels == 1
    assert "grey" in repr(store)


# ---- as a whole ------------------------------------------------------------------------------------------------------
def test_statistics_are_those_of_the_pixels(many: JpegStore) -> None:
    values = np.concatenate([expected(many, row).reshape(3, -1) for row in range(12)], 1) / 255
    mean, std = many.statistics
    np.testing.assert_allclose(mean, values.mean(1), rtol=1e-9)
    np.testing.assert_allclose(std, values.std(1), rtol=1e-9)


def test_fields_and_classes(tmp_path: Path) -> None:
    """Labels, a vector, a text."""
    images = np.stack([pixels(20, 30, seed=i) for i in range(4)])
    fields = {
        "embedding": np.repeat(np.arange(4, dtype=np.float32), 3).reshape(4, 3),
        "text": np.array(["a", "", "äö", "b"]),
    }
    source = lds.sources.arrays(images, [0, 1, 1, 0], fields=fields, classes=["cat", "dog"])
    store = lds.pack(source, tmp_path / "s.lds", codec="jpeg", resize=None, progress=False)
    assert store.classes == ["cat", "dog"]
    assert store[1:3][1].tolist() == [1, 1]
    assert store["text"][:].tolist() == ["a", "", "äö", "b"]
    np.testing.assert_array_equal(store["embedding"][2], np.full(3, 2, np.float32))
    assert "label" in store
    loader = lds.Loader(store, 4, augment=lds.Augment(resized_crop=16), fields=("label", "embedding"))
    for batch, labels, vectors in loader:
        assert (batch.shape, labels.tolist()) == ((4, 3, 16, 16), [0, 1, 1, 0])
        assert vectors[:, 0].tolist() == [0, 1, 2, 3]


def test_pickling_and_closing(many: JpegStore) -> None:
    again = pickle.loads(pickle.dumps(many))
    assert isinstance(again, JpegStore)
    np.testing.assert_array_equal(again[4][0], many[4][0])
    again.close()
    np.testing.assert_array_equal(again[4][0], many[4][0])
    assert again.identity == many.identity


def test_it_says_what_it_has(many: JpegStore, one: JpegStore) -> None:
    assert "12 images; JPEG 48x48 to 90x80 (height x width); RGB; 2 classes; fields label" in repr(many)
    assert "JPEG 60x80 (height x width); RGB" in repr(one)
    html = many._repr_html_()
    assert html.count("<img") == 8
    assert "JPEG 48x48 to 90x80" in html
