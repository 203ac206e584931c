from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from largeds_native._internal.arrays import FieldSpec
from largeds_native.errors import StoreError
from largeds_native.store.format.manifest import Manifest, ShardEntry, parse_manifest, read_manifest
from tests.attacks import manifests

GOOD = Manifest(
    rows=5,
    shape=(3, 4, 6),
    dtype=np.dtype("<f4"),
    layout="CHW",
    shards=(ShardEntry("shard-00000", 3, "ab"), ShardEntry("shard-00002", 2)),
    fields={
        "label": FieldSpec(np.dtype("<i8")),
        "box": FieldSpec(np.dtype("<f4"), (4,)),
        "tag": FieldSpec(np.dtype("<U5")),
    },
    classes=("cat", "dög"),
    normalized=((0.1, 0.2, 0.3), (1.0, 2.0, 3.0)),
    statistics=((0.1, 0.2, 0.3), (1.0, 2.0, 3.0)),
    variants=2,
    options={"resize": 4},
    libraries={"x": "1"},
)


def test_round_trip() -> None:
    found = parse_manifest(json.loads(GOOD.to_bytes()), "here")
    assert found == GOOD
    assert found.to_bytes() == GOOD.to_bytes()
    assert found.identity == GOOD.identity
    assert len(GOOD.identity) == 16


def changed(path: str, value: Any) -> dict[str, Any]:
    tree: dict[str, Any] = copy.deepcopy(GOOD.to_json())
    node: Any = tree
    *parents, last = path.split("/")
    for key in parents:
        node = node[int(key) if isinstance(node, list) else key]
    if value is KeyError:
        del node[last]
    else:
        node[int(last) if isinstance(node, list) else last] = value
    return tree


@pytest.mark.parametrize(("path", "value", "expected"), manifests.VALUES)
def test_hostile_values(path: str, value: Any, expected: str) -> None:
    with pytest.raises(StoreError, match=r"^here") as caught:
        parse_manifest(changed(path, value), "here")
    assert expected in str(caught.value)


def read_or_refused(read: Callable[[], Manifest]) -> tuple[Manifest | None, str]:
    """The manifest, or what the error says. Any other exception than a StoreError is a fault."""
    try:
        return read(), ""
    except StoreError as error:
        return None, str(error)


def assert_written_again(found: Manifest) -> None:
    again = parse_manifest(json.loads(found.to_bytes()), "here")
    assert again == found
    assert again.identity == found.identity


def nodes(tree: Any, depth: int = 4) -> list[Any]:
    """The objects and lists in it."""
    inside = list(tree.values()) if isinstance(tree, dict) else tree
    inside = [value for value in inside if isinstance(value, dict | list)] if depth > 0 else []
    return [tree, *(node for value in inside for node in nodes(value, depth - 1))]


def nested(depth: int) -> list[Any]:
    tree: list[Any] = []
    for _ in range(depth):
        tree = [tree]
    return tree


numbers = st.sampled_from(
    [0, -1, 1, 2**31, 2**48 + 1, 2**63, 2**64, 10**400, -0.0, 0.5, 1e308, float("inf"), float("nan")]
)
texts = st.text(max_size=6) | st.sampled_from(["shard-00000", "shard-00001", "int64", "<U99", "|S0", "HWC", "\ud800"])
leaves = (
    st.none()
    | st.booleans()
    | numbers
    | st.integers()
    | st.floats()
    | texts
    | st.sampled_from([3, 900]).map(nested)  # made anew, since the tests change what they drew
)
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4))


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_any_damage_is_refused_or_harmless(data: st.DataObject) -> None:
    tree: dict[str, Any] = copy.deepcopy(GOOD.to_json())
    for _ in range(data.draw(st.integers(1, 3))):
        node = data.draw(st.sampled_from(nodes(tree)))
        keys = sorted(node, key=str) if isinstance(node, dict) else list(range(len(node)))
        how = data.draw(st.sampled_from(["set", "delete", "add", "copy"] if keys else ["add"]))
        if how == "add" and isinstance(node, dict):
            node[data.draw(texts)] = data.draw(values)
        elif how == "add":
            node.append(data.draw(values))
        else:
            key = data.draw(st.sampled_from(keys))
            if how == "delete":
                del node[key]
            elif how == "set":
                node[key] = data.draw(values)
            else:
                node[key] = copy.deepcopy(data.draw(st.sampled_from(nodes(tree))))
    found, refusal = read_or_refused(lambda: parse_manifest(tree, "here"))
    assert refusal.startswith("here") != (found is not None)
    assert len(refusal) < 1000
    if found is not None:
        assert_written_again(found)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("normalized/std", [10**400, 1, 1]),
        ("options", {"a": float("nan")}),
        ("options", {"a": float("-inf")}),
        ("libraries", {"a": nested(900)}),
    ],
)
def test_values_that_could_not_be_written_again(path: str, value: Any) -> None:
    with pytest.raises(StoreError, match="here: "):
        parse_manifest(changed(path, value), "here")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_bytes_that_are_damaged(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp() / "damaged"
    folder.mkdir(exist_ok=True)
    file = bytearray(GOOD.to_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        begin = data.draw(st.integers(0, len(file)))
        end = begin + data.draw(st.integers(0, 3))
        file[begin:end] = data.draw(
            st.binary(max_size=3) | st.sampled_from([b"9" * 5000, b"1e999", b"[", b'"', b"NaN"])
        )
    (folder / "manifest.json").write_bytes(file)
    found, refusal = read_or_refused(lambda: read_manifest(folder))
    assert ("manifest.json" in refusal) != (found is not None)
    if found is not None:
        assert_written_again(found)


@pytest.mark.parametrize("name", manifests.FIELD_NAMES)
def test_hostile_field_names(name: str) -> None:
    tree = GOOD.to_json()
    tree["fields"][name] = {"dtype": "int64", "shape": []}
    with pytest.raises(StoreError, match="expected a field's name"):
        parse_manifest(tree, "here")


@pytest.mark.parametrize("data", manifests.NO_MANIFESTS)
def test_files_that_are_no_manifest(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(data)
    with pytest.raises(StoreError, match=r"manifest\.json"):
        read_manifest(tmp_path)


def test_folders_that_are_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        read_manifest(tmp_path / "none")
    with pytest.raises(StoreError, match="is not a store"):
        read_manifest(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="found a file"):
        read_manifest(tmp_path / "file")
    (tmp_path / ".pack.json").touch()
    with pytest.raises(StoreError, match="is an unfinished pack"):
        read_manifest(tmp_path)
