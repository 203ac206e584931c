"""Several stores as one: raw rows, JPEG rows, and both."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import largeds_native as lds
from largeds_native.errors import ArgumentError, DecodeError, RowIndexError
from tests.builders.images import encode, pixels
from tests.builders.masks import make_mask_tree
from tests.builders.stores import make_labelled_store
from tests.reference import gathered_sample

TRAIN = lds.Augment(resized_crop=16, flip=0.5)
OPTIONS = {"crop": "random_resized", "out_height": 16, "out_width": 16, "flip": 0.5}


def jpeg_store(path: Path, n: int, first: int = 0, **options: Any) -> Any:
    """Row i has label first + i."""
    files = [encode(pixels(30 + i % 3 * 8, 50 - i % 2 * 9, seed=first + i)) for i in range(n)]
    kwargs = {"codec": "jpeg", "progress": False} | options
    return lds.pack(zip(files, range(first, first + n), strict=True), path, **kwargs)


def raw_store(path: Path, n: int, first: int = 0, side: int = 24, **options: Any) -> Any:
    images = np.stack([pixels(side, side, seed=first + i) for i in range(n)])
    kwargs: dict[str, Any] = {"resize": None, "crop": None, "progress": False} | options
    return lds.pack((images, np.arange(first, first + n)), path, **kwargs)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Labels go on from store to store."""
    folder = tmp_path_factory.mktemp("concat")
    return [
        raw_store(folder / "a", 7),
        jpeg_store(folder / "b", 9, 7),
        raw_store(folder / "c", 4, 16, side=31),
        jpeg_store(folder / "d", 3, 20, shard_bytes=1),
    ]


def images_of(stores: list[Any]) -> list[np.ndarray[Any, Any]]:
    return [store[i][0] for store in stores for i in range(len(store))]


def test_rows_come_one_store_after_another(stores: list[Any]) -> None:
    store = lds.concat(stores)
    assert len(store) == 23
    assert store["label"][:].tolist() == list(range(23))
    expected = images_of(stores)
    for row in (0, 6, 7, 15, 16, 19, 20, 22, -1):
        image, label = store[row]
        np.testing.assert_array_equal(image, expected[row])
        assert label == row % 23
    for found, image in zip(store[5:18:3][0], expected[5:18:3], strict=True):
        np.testing.assert_array_equal(found, image)
    assert store.sizes[[0, 7, 16]].tolist() == [[24, 24], [30, 50], [31, 31]]
    assert store.nbytes == sum(one.nbytes for one in stores)
    with pytest.raises(RowIndexError):
        store[23]


@pytest.mark.parametrize("threads", [1, 3])
def test_a_loader_mixes_them(stores: list[Any], threads: int) -> None:
    store = lds.concat(stores)
    seen = []
    for images, labels in lds.Loader(store, 5, shuffle=True, augment=TRAIN, dtype=torch.uint8, seed=3, threads=threads):
        for image, label in zip(images, labels.tolist(), strict=True):
            expected = gathered_sample(store[label][0].transpose(1, 2, 0), label, 3, 0, OPTIONS)
            np.testing.assert_array_equal(image.numpy(), expected)
            seen.append(label)
    assert sorted(seen) == list(range(23))


def test_weights_mix_them(stores: list[Any]) -> None:
    store = lds.concat(stores)
    weights = np.zeros(23)
    weights[[3, 18]] = 1  # one row of the first store, and one of the third
    labels = torch.cat([labels for _, labels in lds.Loader(store, 8, weights=weights, augment=TRAIN)])
    assert set(labels.tolist()) == {3, 18}


def test_a_resumed_epoch_goes_on_exactly(stores: list[Any]) -> None:
    whole = list(lds.Loader(lds.concat(stores), 5, shuffle=True, augment=TRAIN))
    first = lds.Loader(lds.concat(stores), 5, shuffle=True, augment=TRAIN)
    next(iter(first))
    rest = lds.Loader(lds.concat(stores), 5, shuffle=True, augment=TRAIN)
    rest.load_state_dict(first.state_dict())
    for one, other in zip(rest, whole[1:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    with pytest.raises(lds.StateError):
        lds.Loader(lds.concat(stores[::-1]), 5, shuffle=True, augment=TRAIN).load_state_dict(first.state_dict())


def test_masks_come_with_their_images(tmp_path: Path) -> None:
    tree = make_mask_tree(tmp_path, each=3)
    kwargs: dict[str, Any] = {"masks": tree.masks, "ignore": 255, "progress": False}
    raw = lds.pack(tree.images, tmp_path / "raw", resize=32, crop=30, **kwargs)
    jpeg = lds.pack(tree.images, tmp_path / "jpeg", codec="jpeg", **kwargs)
    for parts in ([raw, raw], [raw, jpeg], [jpeg, raw]):
        store = lds.concat(parts)
        for row in (2, 8):
            np.testing.assert_array_equal(store["mask"][row], parts[row // 6]["mask"][row % 6])
        [(images, masks, labels)] = list(lds.Loader(store, 12, augment=TRAIN, fields=("mask", "label")))
        [first] = list(lds.Loader(parts[0], 6, augment=TRAIN, fields=("mask", "label")))
        assert all(torch.equal(whole[:6], part) for whole, part in zip((images, masks, labels), first, strict=True))
        sole = lds.Loader(lds.concat([parts[0], parts[1]]), 3, augment=TRAIN, fields=("mask",), indices=range(9, 12))
        [(rest, cut)] = list(sole)
        assert torch.equal(rest, images[9:])
        assert torch.equal(cut, masks[9:])
        for row in range(9, 12):
            assert np.isin(masks[row].numpy(), parts[1]["mask"][row % 6]).all()


def test_raw_stores_of_one_shape_are_one_array(tmp_path: Path) -> None:
    parts = [make_labelled_store(tmp_path, n, name=f"{n}.lds", shard_bytes=1000) for n in (5, 8)]
    store = lds.concat(parts)
    assert store.shape == (3, 8, 8)
    np.testing.assert_array_equal(np.asarray(store), np.concatenate([np.asarray(part) for part in parts]))
    [(images, labels)] = list(lds.Loader(store, 13, dtype=torch.uint8))
    np.testing.assert_array_equal(images.numpy(), np.asarray(store))
    assert labels.tolist() == [*range(5), *range(8)]
    both = np.concatenate([np.asarray(part) for part in parts]).transpose(1, 0, 2, 3).reshape(3, -1) / 255
    np.testing.assert_allclose(store.statistics, (both.mean(axis=1), both.std(axis=1)), rtol=1e-9)
    assert lds.StoreDataset(store)[7][1] == 2
    assert store.gather([0, 12], crop=4).shape == (2, 3, 4, 4)


def test_it_is_pickled_by_path(stores: list[Any]) -> None:
    store = pickle.loads(pickle.dumps(lds.concat(stores)))
    assert store.identity == lds.concat(stores).identity != lds.concat(stores[:3]).identity
    np.testing.assert_array_equal(store[8][0], stores[1][1][0])
    assert "7 and 3 more" not in repr(store)
    assert "a and 3 more" in repr(store)
    assert "4 stores" in repr(store)


def test_a_joined_store_can_be_joined_again(stores: list[Any]) -> None:
    store = lds.concat([lds.concat(stores[:2]), lds.concat(stores[2:])])
    flat = lds.concat(stores)
    assert store.parts == flat.parts
    for one, other in zip(
        lds.Loader(store, 5, shuffle=True, augment=TRAIN),
        lds.Loader(flat, 5, shuffle=True, augment=TRAIN),
        strict=True,
    ):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_samples_name_their_store(stores: list[Any]) -> None:
    store = lds.concat(stores)
    table = store.samples
    assert len(table) == 23
    assert table["row"].to_pylist() == list(range(23))
    assert table["store"].to_pylist() == [str(part.path) for part in stores for _ in range(len(part))]
    assert [shard.start for shard in store.shards] == [0, 7, 16, 20, 21, 22]
    assert store.samples_of([4], ["source"]).to_pylist() == [
        {"source": stores[3].samples["source"][1].as_py(), "row": 21, "store": str(stores[3].path)}
    ]


def test_a_part_without_a_list_of_samples(stores: list[Any], tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 3, 24, 24), np.uint8))
    np.save(tmp_path / "y.npy", np.arange(3))
    store = lds.concat([stores[0], lds.open(tmp_path / "x.npy", label=tmp_path / "y.npy")])
    assert store["label"][:].tolist() == [*range(7), 0, 1, 2]
    for use in (lambda: store.samples, lambda: store.shards, store.verify):
        with pytest.raises(lds.StoreError, match=r"x.npy was not packed by largeds"):
            use()


def test_stores_that_do_not_fit(stores: list[Any], tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"channels of .* differ: 3 and 1"):
        lds.concat([stores[0], jpeg_store(tmp_path / "grey", 2, mode="L")])
    with pytest.raises(ArgumentError, match=r"dtype of .* differ"):
        lds.concat([stores[0], raw_store(tmp_path / "floats", 2, dtype="float32")])
    with pytest.raises(ArgumentError, match=r"fields of .* differ: label \(int64\) and none; pack them"):
        lds.concat([stores[0], lds.pack([encode(pixels(9, 9))], tmp_path / "none", codec="jpeg", progress=False)])
    with pytest.raises(ArgumentError, match="2 variants"):
        lds.concat([stores[0], raw_store(tmp_path / "v", 2, variants=2, augment=lds.Augment(flip=0.5))])
    for nothing in ([], ["a"], None):
        with pytest.raises(ArgumentError, match="expected at least one Store"):
            lds.concat(nothing)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="have many sizes"):
        lds.Loader(lds.concat(stores), 4)


def test_damage_is_named_in_its_store(tmp_path: Path) -> None:
    parts = [jpeg_store(tmp_path / "a", 3), jpeg_store(tmp_path / "b", 3, 3)]
    path = tmp_path / "b" / "shard-00000" / "images.bin"
    data = bytearray(path.read_bytes())
    data[:3] = b"???"
    path.write_bytes(data)
    store = lds.concat([parts[0], lds.open(tmp_path / "b")])
    with pytest.raises(DecodeError, match=r"b/shard-00000/images.bin, row 0: the row is no JPEG file"):
        list(lds.Loader(store, 6, augment=TRAIN))
    with pytest.warns(RuntimeWarning, match="a row is replaced"):
        [(_, labels)] = list(lds.Loader(store, 6, augment=TRAIN, on_damage="skip"))
    assert labels.tolist() == [0, 1, 2, 4, 4, 5]
    assert store.verify().damaged == (3,)
    assert lds.concat(parts[:1]).verify().ok
