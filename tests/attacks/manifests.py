"""Hostile values in a store's manifest.json."""

from __future__ import annotations

from typing import Any

# (path to the value, the value, or KeyError for a missing key, a part of the error message)
VALUES: list[tuple[str, Any, str]] = [
    ("format", "other", "expected format 'largeds', found 'other'"),
    ("format", KeyError, "expected the key 'format'"),
    ("version", 4, "found 4, which is newer: update"),
    ("version", 3, "expected version 3 for a store with masks"),
    ("version", 2, "expected codec 'jpeg' in a store of version 2, found 'raw'"),
    ("codec", "jpeg", "expected codec 'raw' in a store of version 1, found 'jpeg'"),
    ("version", 0, "found 0, which is older: pack again"),
    ("version", "1", "expected a whole number"),
    ("version", True, "expected a whole number"),
    ("codec", "zstd", "expected codec 'raw' in a store of version 1, found 'zstd'"),
    ("rows", -1, "rows: expected a whole number"),
    ("rows", 6, "expected the sum of the shards' rows, 5, found 6"),
    ("rows", 1 << 70, "rows: expected a whole number"),
    ("rows", 5.0, "rows: expected a whole number"),
    ("image", [], "expected a JSON object"),
    ("image/shape", [3, 4], "expected three numbers"),
    ("image/shape", [3, 4, 0], "expected a whole number"),
    ("image/shape", [3, 4, 1 << 40], "expected a whole number"),
    ("image/shape", [2, 4, 6], "expected 2 finite numbers"),
    ("image/shape", [40, 4, 6], "expected 1 to 32 channels, found 40"),
    ("image/dtype", "float64", "expected one of uint8, uint16, int16, float16, float32"),
    ("image/dtype", "uint16", "expected version 3 for a store with masks or other pictures, or with images of 16-bit"),
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
    ("fields/label/role", "mask", "expected one of uint8, uint16, int32"),
    (
        "fields/label",
        {"dtype": "uint8", "shape": [4, 6], "role": "mask", "ignore": 255},
        "expected version 3 for a store with masks",
    ),
    ("fields/label", {"dtype": "uint8", "shape": [4, 6], "role": "mask", "ignore": 256}, "from 0 to 255"),
    (
        "fields/label",
        {"dtype": "uint8", "shape": [4, 6], "role": "label", "ignore": 0},
        "role: expected one of mask, picture",
    ),
    ("fields/label", {"dtype": "uint8", "shape": [4, 6], "role": "picture"}, "expected that of a picture, found"),
    ("fields/label", {"dtype": "uint8", "shape": [33, 4, 6], "role": "picture"}, "expected that of a picture, found"),
    ("fields/label", {"dtype": "int64", "shape": [1, 4, 6], "role": "picture"}, "dtype: expected one of uint8, uint16"),
    ("fields/label", {"dtype": "uint8", "shape": [1, 4, 6], "role": "picture"}, "expected version 3 for a store with"),
    ("classes", [1], "expected names"),
    ("classes", "cat", "expected a list"),
    ("normalized/mean", [0.1], "expected 3 finite numbers"),
    ("normalized/std", [0.1, 0.2, float("nan")], "expected 3 finite numbers"),
    ("normalized/std", [0.1, 0.2, "x"], "expected 3 finite numbers"),
    ("variants", 0, "expected a whole number"),
    ("options", None, "expected a JSON object"),
    ("libraries", KeyError, "expected the key 'libraries'"),
]

FIELD_NAMES = ["../label", "a/b", "", ".hidden", "images", "samples", "x" * 101, "a\x00b", "..", "a.b"]

# contents of files that are not manifests
NO_MANIFESTS = [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"format": ' + b"9" * 5000 + b"}", b"null"]
