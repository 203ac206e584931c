"""Packs of JPEG rows: the store's files, order, failures, resume, report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import largeds_native as lds
from largeds_native.errors import ArgumentError, DecodeError, PackError, StorageError
from largeds_native.packing import verify_sources
from largeds_native.packing.jpeg_estimate import estimated_row_bytes
from largeds_native.sources import table
from tests.builders.images import encode, exif_block, pixels
from tests.builders.jpeg_rows import decoded, encoded, read_rows, shown, shrunk
from tests.packing.test_pack import files_of

JPEG: dict[str, Any] = {"codec": "jpeg", "progress": False}
ROOT = Path(__file__).parents[2]
FORMATS = ("JPEG", "PPM", "PNG", "PROGRESSIVE", "TIFF", "WEBP", "BMP")  # Pillow decodes PPM, TIFF and BMP


def make_mixed_tree(root: Path, n: int = 42, side: int = 40) -> list[Path]:
    """Images of many formats and sizes in two classes; their paths in order."""
    paths = []
    for i in range(n):
        form = FORMATS[i % len(FORMATS)]
        folder = root / f"class{2 * i // n}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{i:04d}.{'jpg' if form == 'PROGRESSIVE' else form.lower()}"
        options: dict[str, Any] = {"progressive": True} if form == "PROGRESSIVE" else {}
        if form == "JPEG":
            options["exif"] = b"Exif\0\0" + exif_block(i % 8 + 1)
        image = pixels(side + 3 * i, side + 80 - i, seed=i)
        path.write_bytes(encode(image, "JPEG" if form == "PROGRESSIVE" else form, **options))
        paths.append(path)
    return paths


def spoil(paths: list[Path], *indices: int) -> None:
    for i in indices:
        paths[i].write_bytes(b"rotten" if i % 2 else paths[i].read_bytes()[:200])


def test_rows_are_in_order_and_are_what_pillow_gives(tmp_path: Path) -> None:
    paths = make_mixed_tree(tmp_path / "tree")
    spoil(paths, 5, 8, 20, 41)
    store = lds.pack(tmp_path / "tree", tmp_path / "out", resize=64, quality=90, max_failures=4, **JPEG)
    rows = read_rows(store.path)
    samples = store.samples.to_pylist()
    assert [sample["source"] for sample in samples] == [str(path.relative_to(tmp_path / "tree")) for path in paths]
    good = [(path, sample) for path, sample in zip(paths, samples, strict=True) if sample["status"] == "ok"]
    assert len(good) == len(rows.files) == 38
    for row, (path, sample) in enumerate(good):
        file, size, source = rows.files[row], rows.sizes[row], shown(path.read_bytes())
        assert (sample["row"], sample["bytes"]) == (row, len(file))
        assert (sample["height"], sample["width"]) == source.shape[:2]
        expected = shrunk(source, 64)
        assert size == list(expected.shape[:2])
        if sample["kept"] == "verbatim":
            assert file == path.read_bytes()
        elif sample["kept"] == "transcoded":
            np.testing.assert_array_equal(decoded(file), decoded(path.read_bytes()))
        else:
            np.testing.assert_array_equal(decoded(file), decoded(encoded(expected, 90)))
        assert (sample["kept"] == "shrunk") == (min(source.shape[:2]) > 64)
        assert rows.orientations[row] == (1 if sample["kept"] != "verbatim" else row_orientation(path))
    assert {sample["kept"] for sample in samples} == {"verbatim", "transcoded", "shrunk", "encoded", None}
    np.testing.assert_array_equal(np.asarray(store["label"]), [i >= 21 for i in range(42) if i not in (5, 8, 20, 41)])


def row_orientation(path: Path) -> int:
    with Image.open(path) as image:
        return int(image.getexif().get(0x0112, 1))


@pytest.mark.parametrize("threads", [2, 5])
def test_bytes_do_not_depend_on_threads(tmp_path: Path, threads: int) -> None:
    paths = make_mixed_tree(tmp_path / "tree", 120)
    spoil(paths, 0, 1, 55, 119)
    options: dict[str, Any] = {**JPEG, "resize": 60, "shard_bytes": 50 * estimated_row_bytes(60, 95), "max_failures": 9}
    whole = lds.pack(tmp_path / "tree", tmp_path / "one", threads=1, **options)
    again = lds.pack(tmp_path / "tree", tmp_path / "many", threads=threads, **options)
    assert len(list(whole.path.glob("shard-*"))) == 3
    assert files_of(again.path) == files_of(whole.path)


def test_a_single_failed_format_leaves_no_gap(tmp_path: Path) -> None:
    paths = make_mixed_tree(tmp_path / "tree", 7)
    spoil(paths, *range(6))
    store = lds.pack(tmp_path / "tree", tmp_path / "out", max_failures=6, **JPEG)
    rows = read_rows(store.path)
    assert [len(file) for file in rows.files] == [store.samples["bytes"].to_pylist()[6]]
    assert (store.path / "shard-00000/images.bin").stat().st_size == len(rows.files[0])


@pytest.mark.timeout(240)
def test_killed_anywhere_it_ends_byte_identical(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    paths = make_mixed_tree(tree, 28)
    spoil(paths, 5)
    options = {**JPEG, "resize": 48, "shard_bytes": 4 * estimated_row_bytes(48, 95), "max_failures": 1}
    whole = files_of(lds.pack(tree, tmp_path / "whole", **options).path)
    arguments = [str(tree), str(tmp_path / "out"), "40", "7", json.dumps(options)]
    command = [sys.executable, "-m", "tests.programs.pack_and_kill", *arguments]
    killed = int(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=200).stdout)
    assert killed >= 30
    last = lds.pack(tree, tmp_path / "out", **options)
    for path in [last.path, *tmp_path.glob("out-done-*")]:
        assert files_of(path) == whole


@pytest.mark.parametrize("tiny_disk", ["256k"], indirect=True)
def test_disk_full_in_the_middle(tmp_path: Path, tiny_disk: Path) -> None:
    make_mixed_tree(tmp_path / "tree", 120, 60)
    options = {**JPEG, "shard_bytes": 8 * estimated_row_bytes(None, 95)}
    with pytest.raises(StorageError, match="disk is full"):
        lds.pack(tmp_path / "tree", tiny_disk / "out", **options)
    finished = sorted(path.name for path in (tiny_disk / "out").glob("shard-*"))
    assert finished
    subprocess.run(["mount", "-o", "remount,size=8m", str(tiny_disk)], check=True)
    store = lds.pack(tmp_path / "tree", tiny_disk / "out", **options)
    assert store.report is not None
    assert store.report.resumed_shards == len(finished)
    whole = lds.pack(tmp_path / "tree", tmp_path / "whole", **options)
    assert files_of(store.path) == files_of(whole.path)


def test_report(tmp_path: Path) -> None:
    paths = make_mixed_tree(tmp_path / "tree")
    spoil(paths, 5)
    store = lds.pack(tmp_path / "tree", tmp_path / "out", resize=64, max_failures=1, **JPEG)
    report = store.report
    assert report is not None
    good = [(i, one) for i, one in enumerate(store.samples.to_pylist()) if one["status"] == "ok"]
    assert dict(report.kept) == Counter(one["kept"] for _, one in good)
    assert report.row_bytes == sum(one["bytes"] for _, one in good)
    assert report.source_bytes == sum(os.path.getsize(path) for i, path in enumerate(paths) if i != 5)
    measured = [i for i, one in good if i % 16 == 0 and one["kept"] in ("shrunk", "encoded")]
    assert report.psnr_measured == len(measured)
    assert report.psnr_smallest is not None
    assert report.psnr_mean is not None
    assert 25 < report.psnr_smallest <= report.psnr_mean < 60
    text = str(report)
    assert f"verbatim {report.kept['verbatim']}, transcoded" in text
    assert "of the encoded images, measured" in text
    assert "decoded by: core" in text
    assert store.manifest["statistics"] is None


def test_the_same_store_is_recognised_and_another_refused(tmp_path: Path) -> None:
    make_mixed_tree(tmp_path / "tree", 14)
    store = lds.pack(tmp_path / "tree", tmp_path / "out", resize=64, **JPEG)
    before = files_of(store.path)
    lds.pack(tmp_path / "tree", tmp_path / "out", resize=64, **JPEG)
    assert files_of(store.path) == before
    for other in ({"resize": 63}, {"resize": 64, "quality": 94}, {"resize": 64, "restarts": True}):
        with pytest.raises(PackError, match="finished store of another job"):
            lds.pack(tmp_path / "tree", tmp_path / "out", **JPEG, **other)
    assert store.manifest["options"]["quality"] == 95


def test_sources_are_verified(tmp_path: Path) -> None:
    paths = make_mixed_tree(tmp_path / "tree")
    spoil(paths, 1)
    store = lds.pack(tmp_path / "tree", tmp_path / "out", resize=64, quality=80, max_failures=1, **JPEG)
    result = verify_sources(store)
    assert result.ok
    assert result.checked == 42
    paths[2].write_bytes(encode(pixels(60, 60, seed=99), "PNG"))
    changed = bytearray(paths[7].read_bytes())
    changed[-9] ^= 1
    paths[7].write_bytes(changed)
    assert len(verify_sources(store).different) == 2


def test_sources_of_other_kinds(tmp_path: Path) -> None:
    images = [pixels(30 + i, 40, seed=i) for i in range(5)]
    files = [encode(image, ("JPEG", "GIF")[i % 2]) for i, image in enumerate(images)]

    class Encoded:
        def __len__(self) -> int:
            return 5

        def __getitem__(self, index: int) -> tuple[bytes, int]:
            return files[index], index

    store = lds.pack(Encoded(), tmp_path / "bytes", key="five", **JPEG)
    assert read_rows(store.path).files[::2] == files[::2]
    rows = read_rows(lds.pack((np.stack([pixels(20, 30)] * 3), np.arange(3)), tmp_path / "arrays", **JPEG).path)
    assert rows.sizes == [[20, 30]] * 3
    np.testing.assert_array_equal(decoded(rows.files[0]), decoded(encoded(pixels(20, 30))))
    folder = tmp_path / "tree"
    folder.mkdir()
    for i, file in enumerate(files):
        (folder / f"{i}.img").write_bytes(file)
    listed = tmp_path / "list.csv"
    listed.write_text("path,label\n" + "".join(f"tree/{i}.img,{i}\n" for i in range(5)))
    store = lds.pack(table(listed), tmp_path / "table", shuffle=3, **JPEG)
    labels = np.asarray(store["label"]).tolist()
    assert sorted(labels) == list(range(5))
    for label, file in zip(labels, read_rows(store.path).files, strict=True):
        if label % 2 == 0:
            assert file == files[label]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": 224}, "the loader crops them"),
        ({"resize": (20, 30)}, "expected the longest shorter side"),
        ({"resize": True}, "expected the longest shorter side"),
        ({"resize": 0}, "resize: expected a whole number"),
        ({"dtype": "float32"}, "the loader makes floats of them"),
        ({"mean": (0, 0, 0), "std": (1, 1, 1)}, "pass mean to the Loader"),
        ({"augment": lds.Augment(flip=0.5)}, "pass augment to the Loader"),
        ({"variants": 2}, "pass augment to the Loader"),
        ({"decode": "scaled"}, "pass decode to the Loader"),
        ({"quality": 0}, "quality: expected a whole number from 1 to 100"),
        ({"quality": 90.0}, "quality: expected a whole number from 1 to 100"),
        ({"restarts": 1}, "restarts: expected True or False"),
        ({"codec": "png"}, "codec: expected one of raw, jpeg"),
        ({"codec": "raw", "quality": 95}, "raw rows are not encoded"),
        ({"codec": "raw", "restarts": True}, "raw rows have no restart markers"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    make_mixed_tree(tmp_path / "tree", 2)
    with pytest.raises(ArgumentError, match=message):
        lds.pack(tmp_path / "tree", tmp_path / "out", **{**JPEG, **options})
    assert not (tmp_path / "out").exists()


def test_an_explicit_none_is_no_crop(tmp_path: Path) -> None:
    make_mixed_tree(tmp_path / "tree", 7)
    store = lds.pack(tmp_path / "tree", tmp_path / "out", crop=None, resize=None, dtype=np.uint8, **JPEG)
    assert len(store) == 7


def test_raise_stops_at_the_first_failure(tmp_path: Path) -> None:
    paths = make_mixed_tree(tmp_path / "tree", 14)
    spoil(paths, 7)
    with pytest.raises(DecodeError, match=r"0007\.jpeg"):
        lds.pack(tmp_path / "tree", tmp_path / "out", on_error="raise", **JPEG)


def test_rows_of_a_shard_follow_from_the_options_alone(tmp_path: Path) -> None:
    make_mixed_tree(tmp_path / "tree", 21)
    lds.pack(tmp_path / "tree", tmp_path / "out", resize=50, quality=90, shard_bytes=20_000, **JPEG)
    rows = 20_000 // estimated_row_bytes(50, 90)
    for number in range(21 // rows):
        table = pq.read_table(tmp_path / f"out/shard-{number:05d}/samples.parquet", partitioning=None)
        assert len(table) == rows
    for quality in range(1, 100):
        assert estimated_row_bytes(256, quality) <= estimated_row_bytes(256, quality + 1)
    assert 20_000 < estimated_row_bytes(256, 90) < 40_000


def test_pictures_beside_images_that_would_shrink_are_refused(tmp_path: Path) -> None:
    images = np.stack([pixels(40, 50)] * 2)
    masks = np.zeros((2, 40, 50), np.uint8)
    source = lds.sources.arrays(images, fields={"mask": masks})
    lds.pack(source, tmp_path / "whole", resize=40, **JPEG)
    with pytest.raises(ArgumentError, match="pictures of the images' size"):
        lds.pack(source, tmp_path / "shrunk", resize=39, **JPEG)
