from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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
