"""The files of a JPEG store, written without packing."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from largeds_native._internal.arrays import FieldSpec
from largeds_native.errors import StoreError
from largeds_native.store.format.manifest import Manifest, ShardEntry, parse_manifest, read_manifest
from largeds_native.store.format.psnr import Psnr
from largeds_native.store.format.sample_log import NOT_MEASURED, JpegRows, SampleResults
from largeds_native.store.format.shard_record import ShardRecord
from largeds_native.store.format.statistics import Sums
from largeds_native.store.format.writer import ShardWriter, commit
from largeds_native.store.metadata import Metadata, SizeRange
from tests.builders.images import encode, pixels

METADATA = Metadata(
    0, (3, 0, 0), np.dtype(np.uint8), "CHW", {"label": FieldSpec(np.dtype("<i8"))}, ("cat", "dog"), codec="jpeg"
)
GOOD = Manifest(
    rows=5,
    shape=(3, 0, 0),
    dtype=np.dtype("u1"),
    layout="CHW",
    shards=(ShardEntry("shard-00000", 3, "ab", 9000), ShardEntry("shard-00001", 2, "", 500)),
    classes=("cat", "dog"),
    codec="jpeg",
    sizes=SizeRange((4, 6), (8, 6), 9500),
)


def write_jpeg_store(folder: Path, shards: Sequence[Sequence[bytes]], turned: Sequence[int] = ()) -> Manifest:
    """JPEG files as the rows of shards; row i of the store has orientation turned[i], and label i."""
    folder.mkdir()
    records, first = [], 0
    for number, files in enumerate(shards):
        n = len(files)
        orientation = np.array([*turned[first : first + n], *[1] * n][:n], np.uint8)
        stored = np.array([Image.open(io.BytesIO(file)).size[::-1] for file in files], np.uint16).reshape(n, 2)
        size = np.where(orientation[:, None] >= 5, stored[:, ::-1], stored)
        lengths = np.array([len(file) for file in files], np.int64)
        rows = JpegRows(np.zeros(n, np.uint8), lengths, size, orientation, np.full(n, NOT_MEASURED, np.int32), lengths)
        height, width = size.T.astype(np.int32)
        results = SampleResults(
            width, height, np.arange(n, dtype=np.uint64), np.zeros(n, np.uint8), Sums.zero(3), jpeg=rows
        )
        writer = ShardWriter(folder, number, METADATA, "plan")
        writer.append(files)
        writer.log([f"{i}.jpg" for i in range(n)], results, {"label": np.arange(first, first + n)})
        records.append(writer.finish())
        first += n
    return commit(folder, records, METADATA)


def files_of(*sizes: tuple[int, int]) -> list[bytes]:
    return [encode(pixels(h, w, seed=i)) for i, (h, w) in enumerate(sizes)]


def test_files_are_what_the_format_says(tmp_path: Path) -> None:
    files = files_of((20, 30), (40, 24), (31, 31), (8, 70))
    written = write_jpeg_store(tmp_path / "s.lds", [files[:3], files[3:]], [1, 6])
    shard = tmp_path / "s.lds/shard-00000"
    assert (shard / "images.bin").read_bytes() == b"".join(files[:3])
    offsets = np.load(shard / "images.offsets.npy", mmap_mode="r")
    assert offsets.dtype == np.uint64
    assert offsets.tolist() == [0, *np.cumsum([len(file) for file in files[:3]]).tolist()]
    sizes = np.load(shard / "images.size.npy")
    assert (sizes.dtype, sizes.tolist()) == (np.uint16, [[20, 30], [24, 40], [31, 31]])
    turned = np.load(shard / "images.orientation.npy")
    assert (turned.dtype, turned.tolist()) == (np.uint8, [1, 6, 1])
    assert not (tmp_path / "s.lds/shard-00001/images.orientation.npy").exists()
    assert np.load(tmp_path / "s.lds/shard-00001/label.npy").tolist() == [3]
    assert written.sizes == SizeRange((8, 30), (31, 70), sum(map(len, files)))
    assert read_manifest(tmp_path / "s.lds") == written
    tree = json.loads((tmp_path / "s.lds/manifest.json").read_bytes())
    assert (tree["version"], tree["codec"]) == (2, "jpeg")
    image = {"channels": 3, "dtype": "uint8", "layout": "CHW", "min_size": [8, 30], "max_size": [31, 70]}
    assert tree["image"] == image
    assert [entry["bytes"] for entry in tree["shards"]] == [sum(map(len, files[:3])), len(files[3])]
    assert tree["statistics"] is None


def test_samples_and_record_say_how_rows_were_kept(tmp_path: Path) -> None:
    n = 4
    psnr = np.array([NOT_MEASURED, 41_000, 39_500, NOT_MEASURED], np.int32)
    rows = JpegRows(
        np.array([0, 2, 3, 1], np.uint8),
        np.array([10, 20, 30, 0], np.int64),
        np.array([[5, 6], [7, 8], [3, 9], [0, 0]], np.uint16),
        np.ones(n, np.uint8),
        psnr,
        np.array([10, 200, 300, 0], np.int64),
    )
    side = np.full(n, 9, np.int32)
    errors = {3: ("corrupt", "bad")}
    results = SampleResults(
        side, side, np.arange(4, dtype=np.uint64), np.zeros(n, np.uint8), Sums.zero(3), errors, rows
    )
    writer = ShardWriter(tmp_path, 0, METADATA, "plan")
    writer.append([b"a" * 10, b"b" * 20, b"c" * 30])
    writer.log(["a", "b", "c", "d"], results, {"label": np.arange(4)})
    record = writer.finish()
    assert record.kept == {"verbatim": 1, "shrunk": 1, "encoded": 1}
    assert (record.bytes, record.source_bytes, record.min_size, record.max_size) == (60, 510, (3, 6), (7, 9))
    assert record.psnr == Psnr(2, 80_500, 39_500)
    assert record.psnr.mean_db == 40.25
    assert ShardRecord.read(tmp_path / "shard-00000") == record
    table = pq.read_table(tmp_path / "shard-00000/samples.parquet", partitioning=None)
    assert table["kept"].to_pylist() == ["verbatim", "shrunk", "encoded", None]
    assert table["bytes"].to_pylist() == [10, 20, 30, 0]
    assert table["hash"].to_pylist() == [0, 1, 2, None]


def test_a_shard_without_rows(tmp_path: Path) -> None:
    written = write_jpeg_store(tmp_path / "s.lds", [[]])
    assert written.sizes == SizeRange((0, 0), (0, 0), 0)
    assert (tmp_path / "s.lds/shard-00000/images.bin").stat().st_size == 0
    assert np.load(tmp_path / "s.lds/shard-00000/images.offsets.npy").tolist() == [0]
    assert np.load(tmp_path / "s.lds/shard-00000/images.size.npy").shape == (0, 2)
    assert read_manifest(tmp_path / "s.lds") == written


def test_metadata_of_many_sizes_and_of_one() -> None:
    assert GOOD.varies
    assert GOOD.channels == 3
    with pytest.raises(StoreError, match=r"many sizes, from 4x6 to 8x6 \(height x width\): see store.sizes"):
        _ = GOOD.image_size
    assert "JPEG 4x6 to 8x6 (height x width)" in GOOD.facts()
    one = parse_manifest(changed("image/max_size", [4, 6]), "here")
    assert not one.varies
    assert (one.shape, one.image_size) == ((3, 4, 6), (4, 6))
    last = parse_manifest(changed("image", {**GOOD.to_json()["image"], "layout": "HWC", "channels": 1}), "here")
    assert last.shape == (0, 0, 1)


def changed(path: str, value: Any) -> dict[str, Any]:
    tree: dict[str, Any] = copy.deepcopy(GOOD.to_json())
    node: Any = tree
    *parents, last = path.split("/")
    for key in parents:
        node = node[int(key) if isinstance(node, list) else key]
    if value is KeyError:
        del node[last]
    else:
        node[last] = value
    return tree


def test_round_trip() -> None:
    found = parse_manifest(json.loads(GOOD.to_bytes()), "here")
    assert found == GOOD
    assert found.to_bytes() == GOOD.to_bytes()


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("codec", "raw", "expected codec 'jpeg' in a store of version 2, found 'raw'"),
        ("version", 1, "expected codec 'raw' in a store of version 1, found 'jpeg'"),
        ("image", {"shape": [3, 4, 6], "dtype": "uint8", "layout": "CHW"}, "expected the key 'channels'"),
        ("image/channels", 2, "expected 1 or 3, found 2"),
        ("image/channels", 4, "expected a whole number from 1 to 3"),
        ("image/dtype", "float32", "expected one of uint8"),
        ("image/min_size", [4], "expected min_size and max_size"),
        ("image/min_size", [9, 6], "the first no larger"),
        ("image/min_size", [0, 6], "expected a whole number from 1 to 65535"),
        ("image/max_size", [8, 65_536], "expected a whole number from 1 to 65535"),
        ("image/max_size", KeyError, "expected the key 'max_size'"),
        ("shards/0/bytes", -1, "bytes: expected a whole number"),
        ("shards/0/bytes", KeyError, "expected the key 'bytes'"),
        ("variants", 2, "without normalized, statistics and variants"),
        ("statistics", {"mean": [0, 0, 0], "std": [1, 1, 1]}, "without normalized, statistics and variants"),
    ],
)
def test_hostile_values(path: str, value: Any, expected: str) -> None:
    with pytest.raises(StoreError, match=r"^here") as caught:
        parse_manifest(changed(path, value), "here")
    assert expected in str(caught.value)


def test_raw_manifests_and_records_have_no_new_keys(tmp_path: Path) -> None:
    metadata = Metadata(0, (3, 2, 2), np.dtype(np.uint8), "CHW")
    rows = np.zeros((1, 12), np.uint8)
    side = np.full(1, 2, np.int32)
    writer = ShardWriter(tmp_path, 0, metadata, "plan")
    writer.append(rows)
    writer.log(["a"], SampleResults(side, side, np.zeros(1, np.uint64), np.zeros(1, np.uint8), Sums.zero(3)), {})
    commit(tmp_path, [writer.finish()], metadata)
    tree = json.loads((tmp_path / "manifest.json").read_bytes())
    assert (tree["version"], tree["codec"], set(tree["image"])) == (1, "raw", {"shape", "dtype", "layout"})
    assert set(tree["shards"][0]) == {"name", "rows", "hash"}
    record = json.loads((tmp_path / "shard-00000/shard.json").read_bytes())
    assert set(record) == {"name", "plan", "rows", "samples", "failed", "decoders", "sums", "hash", "libraries"}
