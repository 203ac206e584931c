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


HOSTILE = [
    ("format", "other", "expected format 'largeds', found 'other'"),
    ("format", KeyError, "expected the key 'format'"),
    ("version", 2, "found 2, which is newer: update"),
    ("version", 0, "found 0, which is older: pack again"),
    ("version", "1", "expected a whole number"),
    ("version", True, "expected a whole number"),
    ("codec", "zstd", "expected codec 'raw', found 'zstd'"),
    ("rows", -1, "rows: expected a whole number"),
    ("rows", 6, "expected the sum of the shards' rows, 5, found 6"),
    ("rows", 1 << 70, "rows: expected a whole number"),
    ("rows", 5.0, "rows: expected a whole number"),
    ("image", [], "expected a JSON object"),
    ("image/shape", [3, 4], "expected three numbers"),
    ("image/shape", [3, 4, 0], "expected a whole number"),
    ("image/shape", [3, 4, 1 << 40], "expected a whole number"),
    ("image/shape", [2, 4, 6], "expected 1 or 3 channels, found 2"),
    ("image/dtype", "float64", "expected one of uint8, float16, float32"),
    ("image/dtype", ["uint8"], "expected one of"),
    ("image/layout", "CWH", "expected one of CHW, HWC"),
    ("shards", {}, "expected a list"),
    ("shards/0/name", "../shard-00000", "expected a name like 'shard-00000'"),
    ("shards/0/name", "/etc", "expected a name like"),
    ("shards/0/name", "shard-00000/..", "expected a name like"),
    ("shards/0/name", "shard-00000\n", "expected a name like"),
    ("shards/0/name", 7, "expected a name like"),
    ("shards/0/name", "shard-00002", "twice"),
    ("shards/0/rows", -3, "expected a whole number"),
    ("shards/0", None, "expected a JSON object"),
    ("fields", [], "expected a JSON object"),
    ("fields/label/dtype", "object", "expected the name of a fixed-size"),
    ("fields/label/dtype", "O", "expected the name of a fixed-size"),
    ("fields/label/dtype", "i4,i4", "expected the name of a fixed-size"),
    ("fields/label/dtype", "<U0", "expected the name of a fixed-size"),
    ("fields/label/shape", [-1], "expected a whole number"),
    ("fields/label/shape", [1] * 17, "at most 16 dimensions"),
    ("classes", [1], "expected names"),
    ("classes", "cat", "expected a list"),
    ("normalized/mean", [0.1], "expected 3 finite numbers"),
    ("normalized/std", [0.1, 0.2, float("nan")], "expected 3 finite numbers"),
    ("normalized/std", [0.1, 0.2, "x"], "expected 3 finite numbers"),
    ("variants", 0, "expected a whole number"),
    ("options", None, "expected a JSON object"),
    ("libraries", KeyError, "expected the key 'libraries'"),
]


@pytest.mark.parametrize(("path", "value", "words"), HOSTILE)
def test_hostile_values_are_named(path: str, value: Any, words: str) -> None:
    with pytest.raises(StoreError, match=r"^here") as caught:
        parse_manifest(changed(path, value), "here")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "name", ["../label", "a/b", "", ".hidden", "images", "samples", "x" * 101, "a\x00b", "..", "a.b"]
)
def test_hostile_field_names(name: str) -> None:
    tree = GOOD.to_json()
    tree["fields"][name] = {"dtype": "int64", "shape": []}
    with pytest.raises(StoreError, match="expected a field's name"):
        parse_manifest(tree, "here")


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"format": ' + b"9" * 5000 + b"}", b"null"])
def test_files_that_are_no_manifest(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(data)
    with pytest.raises(StoreError, match=r"manifest\.json"):
        read_manifest(tmp_path)


def test_folders_that_are_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        read_manifest(tmp_path / "none")
    with pytest.raises(StoreError, match="is no store"):
        read_manifest(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="found a file"):
        read_manifest(tmp_path / "file")
    (tmp_path / ".pack.json").touch()
    with pytest.raises(StoreError, match="not packed to the end"):
        read_manifest(tmp_path)
