"""The classes of several stores under one numbering."""

from __future__ import annotations

import gc
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import largeds_native as lds
from largeds_native import _C
from largeds_native.errors import ArgumentError, StoreError
from tests.builders.stores import make_random_store

NAMES = st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=5, unique=True)


def labelled(path: Path, labels: Any, names: Any = (), dtype: str = "int64", shard_rows: int = 3) -> Any:
    """A store with these labels, whose classes have these names."""
    values = np.asarray(labels, dtype)
    return make_random_store(path, len(values), fields={"label": values}, classes=tuple(names), shard_rows=shard_rows)


def labels_everywhere(store: Any) -> list[int]:
    """The labels of a store, which are the same in all ways to read them."""
    labels: list[int] = np.asarray(store["label"][:]).tolist()
    assert [int(store[i][1]) for i in range(len(store))] == labels
    assert [int(label) for _, label in store] == labels
    assert store[list(range(len(store)))][1].tolist() == labels
    assert lds.StoreDataset(store).targets == labels
    assert [label for _, label in lds.StoreDataset(store).__getitems__(range(len(store)))] == labels
    assert torch.cat([batch for _, batch in lds.Loader(store, 4)]).tolist() == labels
    read = store.field_rows("label").read(range(len(store)))
    assert read.view(store["label"].dtype).ravel().tolist() == labels
    return labels


@settings(max_examples=25, deadline=None)
@given(
    parts=st.lists(st.tuples(NAMES, st.lists(st.integers(0, 99), min_size=1, max_size=7)), min_size=1, max_size=4),
    dtype=st.sampled_from(["int64", "uint8", "int16", "int32"]),
    nested=st.booleans(),
)
def test_classes_of_the_same_name_are_one(
    parts: list[Any], dtype: str, nested: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("match")
    stores, expected, names = [], [], []
    for number, (own, values) in enumerate(parts):
        labels = [value % len(own) for value in values]
        stores.append(labelled(folder / str(number), labels, own, dtype))
        names += [name for name in own if name not in names]
        expected += [names.index(own[label]) for label in labels]
    store = lds.concat([lds.concat(stores[:2]), *stores[2:]] if nested else stores)
    assert store.classes == names
    assert labels_everywhere(store) == expected
    assert labels_everywhere(pickle.loads(pickle.dumps(store))) == expected


@settings(max_examples=15, deadline=None)
@given(
    parts=st.lists(st.tuples(NAMES, st.lists(st.integers(0, 99), min_size=1, max_size=7)), min_size=1, max_size=4),
    named=st.booleans(),
)
def test_offset_puts_classes_one_after_another(
    parts: list[Any], named: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("offset")
    stores, expected, start = [], [], 0
    for number, (own, values) in enumerate(parts):
        labels = [value % len(own) for value in values]
        stores.append(labelled(folder / str(number), labels, own if named else ()))
        expected += [start + label for label in labels]
        start += len(own) if named else max(labels) + 1
    store = lds.concat(stores, classes="offset")
    assert labels_everywhere(store) == expected
    assert len(store.classes) == (start if named else 0)
    assert len(set(store.classes)) == len(store.classes)
    assert store.identity != lds.concat(stores[:1]).identity


def test_names_of_an_offset(tmp_path: Path) -> None:
    a = labelled(tmp_path / "a.lds", [0, 1], ["cat", "dog"])
    b = labelled(tmp_path / "b.lds", [0, 1], ["car", "cat"])
    c = labelled(tmp_path / "c.lds", [0, 2])
    (tmp_path / "d").mkdir()
    other = labelled(tmp_path / "d" / "a.lds", [0], ["cat"])
    assert lds.concat([a, b], classes="offset").classes == ["a.lds/cat", "dog", "car", "b.lds/cat"]
    assert lds.concat([a, c], classes="offset").classes == ["cat", "dog", "c.lds/0", "c.lds/1", "c.lds/2"]
    assert lds.concat([a, other], classes="offset").classes == [f"{a.path}/cat", "dog", f"{other.path}/cat"]
    assert lds.concat([a, a], classes="offset").classes[::2] == [f"{a.path} (0)/cat", f"{a.path} (1)/cat"]
    assert labels_everywhere(lds.concat([a, b, c], classes="offset")) == [0, 1, 2, 3, 4, 6]


def test_negative_labels_stay(tmp_path: Path) -> None:
    a = labelled(tmp_path / "a", [0, -1, 1], ["x", "y"], "int16")
    b = labelled(tmp_path / "b", [1, -100, 0], ["y", "x"], "int16")
    assert labels_everywhere(lds.concat([a, b])) == [0, -1, 1, 0, -100, 1]


def test_a_label_that_is_no_class(tmp_path: Path) -> None:
    stores = [labelled(tmp_path / "a", [0], ["x"]), labelled(tmp_path / "b", [0, 1, 2, 0, 7], ["y", "x", "z"])]
    store = lds.concat(stores)
    message = r"b/shard-00001/label.npy, row 1.*: label 7 is no number of its 3 classes"
    with pytest.raises(StoreError, match=message):
        store["label"][:]
    with pytest.raises(StoreError, match=message):
        list(lds.Loader(store, 3))


def test_numbers_without_names(tmp_path: Path) -> None:
    """They are what `pack` calls "0", "1", ...: the same in all stores."""
    none, few, more = labelled(tmp_path / "n", [5]), labelled(tmp_path / "f", [1], "01"), labelled(tmp_path / "m", [2])
    assert labels_everywhere(lds.concat([none, few, more])) == [5, 1, 2]
    digits = labelled(tmp_path / "digits", [0, 1, 2], ["1", "0", "10"])
    assert labels_everywhere(lds.concat([digits, few])) == [0, 1, 2, 0]  # all names of `few` are known
    np.save(tmp_path / "empty.npy", np.zeros((0, 3, 4, 5), np.uint8))
    np.save(tmp_path / "labels.npy", np.zeros(0, np.int64))
    empty = lds.open(tmp_path / "empty.npy", label=tmp_path / "labels.npy")
    named = labelled(tmp_path / "named", [1], ["cat", "dog"])
    assert lds.concat([empty, named]).classes == ["cat", "dog"]
    for nameless in (none, few):
        with pytest.raises(ArgumentError, match=r"have only numbers, and those of .*named have names \(cat, dog"):
            lds.concat([named, nameless])


def test_what_can_not_be_joined(tmp_path: Path) -> None:
    xy, yx = (labelled(tmp_path / name, [0, 1], name, "uint8") for name in ("xy", "yx"))
    with pytest.raises(ArgumentError, match="classes: expected one of 'match', 'offset', found 'both'"):
        lds.concat([xy, yx], classes="both")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="has two classes named 'x'"):
        lds.concat([xy, labelled(tmp_path / "twice", [0], ["x", "x"], "uint8")])
    many = labelled(tmp_path / "many", [3], [f"c{i}" for i in range(255)], "uint8")
    with pytest.raises(ArgumentError, match=r"are uint8, up to 255, and the joined classes go up to 25[67]"):
        lds.concat([many, xy, yx], classes="offset")
    vectors = [
        make_random_store(tmp_path / f"v{names}", 2, fields={"label": np.zeros((2, 2))}, classes=tuple(names))
        for names in ("xy", "yx")
    ]
    with pytest.raises(ArgumentError, match=r"float64 of shape \(2,\), which can't be renumbered"):
        lds.concat(vectors)
    with pytest.raises(ArgumentError, match="has no class numbers"):
        lds.concat(vectors, classes="offset")
    with pytest.raises(ArgumentError, match="found label 99,999,999"):
        lds.concat([labelled(tmp_path / "ids", [99_999_999])], classes="offset")


def test_labels_in_memory_of_a_store_that_only_the_rows_hold(tmp_path: Path) -> None:
    for name, classes in (("a", ["x", "y"]), ("b", ["y", "x"])):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["data"] = np.zeros((4, 3, 8, 8), np.uint8)
            file.create_dataset("labels", data=[0, 1, 1, 0], chunks=(2,), compression="gzip")
            file.attrs["classes"] = classes
    store = lds.concat([lds.open(tmp_path / "a.h5"), lds.open(tmp_path / "b.h5")])
    assert labels_everywhere(store) == [0, 1, 1, 0, 1, 0, 0, 1]
    rows = store.field_rows("label")
    del store
    gc.collect()
    assert rows.read(range(8)).view(np.int64).ravel().tolist() == [0, 1, 1, 0, 1, 0, 0, 1]


def test_exports_and_packs_have_the_joined_numbers(tmp_path: Path) -> None:
    store = lds.concat(
        [labelled(tmp_path / "a", [0, 1], ["x", "y"]), labelled(tmp_path / "b", [0, 1, 2], ["z", "y", "x"])]
    )
    expected = [0, 1, 2, 1, 0]
    exported = lds.open(store.to_hdf5(tmp_path / "x.h5", progress=False))
    assert (exported["label"][:].tolist(), exported.classes) == (expected, ["x", "y", "z"])
    np.testing.assert_array_equal(np.asarray(exported.images), np.asarray(store.images))
    again = lds.pack(store, tmp_path / "again", resize=None, crop=None, progress=False)
    assert (again["label"][:].tolist(), again.classes) == (expected, ["x", "y", "z"])


def test_the_core_checks_the_parts(tmp_path: Path) -> None:
    files = [(str(file.path), file.offset, file.rows) for file in labelled(tmp_path / "a", [0, 1]).files("label")]
    with pytest.raises(ArgumentError, match="the parts have 3 labels, and the files 2"):
        _C.LabelRows(files, 8, True, [(3, [0])])
    with pytest.raises(ArgumentError, match="integers of 1, 2, 4 or 8 bytes, found 3"):
        _C.LabelRows(files, 3, True, [(2, [0])])
