"""A Store as a sequence, as an array, as a context manager, and in a notebook."""

from __future__ import annotations

import base64
import copy
import io
import multiprocessing
import pickle
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import largeds_native as lds
from largeds_native.errors import ArgumentError, RowIndexError
from largeds_native.store.display import visible

IMAGES = np.random.default_rng(0).integers(0, 256, (11, 3, 6, 8), np.uint8)
LABELS = np.arange(11) % 3
QUIET: dict[str, Any] = {"resize": None, "crop": None, "progress": False}


@pytest.fixture(params=[1 << 30, 4 * 144], ids=["one shard", "three shards"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> lds.Store:
    return lds.pack((IMAGES, LABELS), tmp_path / "s.lds", shard_bytes=request.param, **QUIET)


@pytest.mark.parametrize("row", [0, 10, -1, -11, np.int64(5), np.uint8(3), np.int32(-2), torch.tensor(7)])
def test_a_row(store: lds.Store, row: Any) -> None:
    image, label = store[row]
    np.testing.assert_array_equal(image, IMAGES[int(row)])
    assert label == LABELS[int(row)]
    assert np.shares_memory(image, store[row][0])  # a view of the mapping, not a copy


ROWS = [slice(None), slice(2, 9), slice(-3, None), slice(None, None, -2), slice(7, 3), slice(0, 99)]
ROWS += [[4, -1, 4], [], range(3, 6), np.array([9, 0]), torch.tensor([1, -4]), (np.arange(11) > 6), [[1, 2], [3, 4]]]


@pytest.mark.parametrize("rows", ROWS, ids=str)
def test_several_rows(store: lds.Store, rows: Any) -> None:
    images, labels = store[rows]
    wanted = rows if isinstance(rows, slice) else np.asarray(rows, np.bool_ if len(rows) == 11 else int)
    np.testing.assert_array_equal(images, IMAGES[wanted])
    np.testing.assert_array_equal(labels, LABELS[wanted])


@pytest.mark.parametrize("row", [11, -12, np.int64(11), 2**70, [0, 11], np.array([-12]), [True, False], [0.5]])
def test_rows_that_do_not_exist(store: lds.Store, row: Any) -> None:
    with pytest.raises(RowIndexError, match=r"row -?\d+ is outside of|expected (11 booleans|row numbers)"):
        store[row]


@pytest.mark.parametrize("key", [1.5, None, (1, 2), True, ..., {"a": 1}, b"label"])
def test_invalid_keys(store: lds.Store, key: Any) -> None:
    with pytest.raises(TypeError, match=r"expected a row number, a slice.*, found "):
        store[key]


def test_a_loop(store: lds.Store) -> None:
    seen = list(store)
    assert len(seen) == len(store) == 11
    for (image, label), expected, number in zip(seen, IMAGES, LABELS, strict=True):
        np.testing.assert_array_equal(image, expected)
        assert label == number
    assert next(reversed(store))[1] == LABELS[-1]
    assert "label" in store
    assert "boxes" not in store
    assert 3 not in store


def test_without_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", IMAGES)
    store = lds.open(tmp_path / "x.npy")
    assert [label for _, label in store] == [None] * 11
    assert store[2:4][1] is None
    assert "<figcaption></figcaption>" in store._repr_html_()


def test_as_an_array(store: lds.Store) -> None:
    one_shard = len(store.shards) == 1
    np.testing.assert_array_equal(np.asarray(store), IMAGES)
    np.testing.assert_array_equal(np.asarray(store, np.float32), IMAGES.astype(np.float32))
    assert np.shares_memory(np.asarray(store), np.asarray(store.images)) == one_shard
    copied = np.array(store)
    assert copied.flags.writeable
    assert not np.shares_memory(copied, np.asarray(store))
    assert np.max(store) == IMAGES.max()
    if one_shard:
        assert np.shares_memory(store.__array__(copy=False), store.__array__())
        with pytest.raises(ValueError, match="uint8 images can't be an array of float32 without a copy"):
            store.__array__(np.float32, copy=False)
    else:
        with pytest.raises(ValueError, match="without a copy"):
            store.__array__(copy=False)


def test_as_a_context_and_again(store: lds.Store) -> None:
    with store as entered:
        assert entered is store
        kept, _ = store[3]
    np.testing.assert_array_equal(kept, IMAGES[3])
    np.testing.assert_array_equal(store[4][0], IMAGES[4])


def sum_of(store: lds.Store) -> int:
    return int(np.sum(store, dtype=np.int64))


def test_pickling(store: lds.Store) -> None:
    data = pickle.dumps(store)
    assert len(data) < 500
    for other in (pickle.loads(data), copy.copy(store), copy.deepcopy(store)):
        assert (other.path, other.identity) == (store.path, store.identity)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(sum_of, (store,)) == IMAGES.sum()


def test_repr(store: lds.Store) -> None:
    shards = "1 shard" if len(store.shards) == 1 else "3 shards"
    facts = f"11 images; CHW (3, 6, 8); uint8; 3 classes; fields label; {shards}, 1.6 kB"
    assert repr(store) == f"<Store {str(store.path)!r}: {facts}>"


class Page(HTMLParser):
    """Parses the tags of a fragment, and checks that each is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_in_a_notebook(tmp_path: Path) -> None:
    for name in ("<script>alert(1)</script>".replace("/", "-"), "b & c"):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for i in range(2):
            Image.fromarray(IMAGES[i].transpose(1, 2, 0)).save(folder / f"{i}.png")
    page = lds.pack(tmp_path / "photos", tmp_path / "<s>.lds", **QUIET)._repr_html_()
    assert Page(page).tags.count("img") == 4
    assert "script" not in Page(page).tags
    assert "b &amp; c" in page
    assert "&lt;s&gt;.lds" in page
    first = re.findall(r"base64,([^\"]+)", page)[0]
    np.testing.assert_array_equal(Image.open(io.BytesIO(base64.b64decode(first))), IMAGES[0].transpose(1, 2, 0))


@pytest.mark.parametrize("layout", ["CHW", "HWC"])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pixels_are_those_that_were_packed(tmp_path: Path, layout: Any, dtype: str, mode: Any) -> None:
    images = IMAGES if mode == "RGB" else IMAGES[:, :1]
    channels = len(images[0])
    baked = {} if dtype == "uint8" else {"mean": (0.4, 0.5, 0.6)[:channels], "std": (0.2, 0.3, 0.2)[:channels]}
    given = (images.transpose(0, 2, 3, 1).squeeze(), LABELS)
    store = lds.pack(given, tmp_path / "s.lds", layout=layout, dtype=dtype, mode=mode, **baked, **QUIET)
    for (image, _), expected in zip(store, images, strict=True):
        np.testing.assert_array_equal(
            visible(image, store.layout, store.mean, store.std), expected.transpose(1, 2, 0).squeeze()
        )
    assert store._repr_html_().count("<img") == 8


def test_variants_and_long_labels(tmp_path: Path) -> None:
    labels = np.arange(33.0).reshape(11, 3) / 7
    augment = lds.Augment(random_crop=4, flip=0.5)
    store = lds.pack((IMAGES, labels), tmp_path / "s.lds", variants=2, augment=augment, **QUIET)
    assert "2 variants" in repr(store)
    page = store._repr_html_()
    assert page.count("<img") == 8
    assert "...</figcaption>" in page
    assert store[2:5][0].shape == (3, 2, 3, 4, 4)


@pytest.mark.parametrize("path", [None, 5, b"s.lds", ["s.lds"]])
def test_what_is_no_path(path: Any) -> None:
    with pytest.raises(ArgumentError, match="path: expected the path of a store, found"):
        lds.open(path)
