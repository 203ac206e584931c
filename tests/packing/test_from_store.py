"""A store as the source of a pack: raw rows of JPEG rows, and the other way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import largeds_native as lds
from largeds_native.cli.app import app
from largeds_native.errors import ArgumentError
from tests.builders.images import encode, exif_block, pixels
from tests.builders.jpeg_rows import encoded

JPEG: dict[str, Any] = {"codec": "jpeg", "progress": False}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of many sizes and kinds, one of which is damaged, in two classes."""
    for i in range(12):
        image = pixels(40 + i, 70 - 2 * i, seed=i)
        path = tmp_path / "images" / "ab"[i % 2] / f"{i:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = b"Exif\0\0" + exif_block(1 + i % 8)
        path.write_bytes(encode(image, progressive=i % 3 == 0, exif=exif) if i % 5 else encode(image, "PNG"))
    (tmp_path / "images" / "a" / "04.jpg").write_bytes(b"\xff\xd8\xff damaged")
    return tmp_path / "images"


def test_raw_rows_of_jpeg_rows_are_those_of_the_images(folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"resize": 32, "crop": 24, "progress": False, "max_failures": 1}
    jpeg = lds.pack(folder, tmp_path / "jpeg.lds", codec="jpeg", quality=100, progress=False, max_failures=1)
    direct, again = (
        lds.pack(folder, tmp_path / "direct.lds", **options),
        lds.pack(jpeg, tmp_path / "raw.lds", **options),
    )
    assert again.classes == direct.classes == ["a", "b"]
    np.testing.assert_array_equal(again["label"][:], direct["label"][:])
    kept = jpeg.samples.filter(np.asarray(jpeg.samples["row"]) >= 0)
    assert again.samples["source"].to_pylist() == kept["source"].to_pylist()
    for row, way in enumerate(kept["kept"].to_pylist()):
        if way != "encoded":  # without loss
            np.testing.assert_array_equal(again.images[row], direct.images[row])
    assert again.report.source == "store jpeg.lds"
    assert again.verify().ok


def test_jpeg_rows_of_raw_rows(tmp_path: Path) -> None:
    images = np.stack([pixels(30, 40, seed=i) for i in range(9)])
    vectors = np.arange(18.0).reshape(9, 2)
    source = lds.sources.arrays(images, fields={"vector": vectors})
    for layout in ("CHW", "HWC"):
        raw = lds.pack(source, tmp_path / f"{layout}.lds", resize=None, crop=None, layout=layout, progress=False)
        jpeg = lds.pack(raw, tmp_path / f"{layout}.jpeg.lds", quality=90, **JPEG)
        assert [jpeg.encoded(i) for i in range(9)] == [encoded(image, 90) for image in images]
        np.testing.assert_array_equal(jpeg["vector"][:], vectors)


def test_jpeg_rows_of_jpeg_rows_are_kept(folder: Path, tmp_path: Path) -> None:
    first = lds.pack(folder, tmp_path / "a.lds", max_failures=1, **JPEG)
    second = lds.pack(first, tmp_path / "b.lds", **JPEG)
    assert [second.encoded(i) for i in range(11)] == [first.encoded(i) for i in range(11)]
    np.testing.assert_array_equal(second.sizes[:], first.sizes[:])
    smaller = lds.pack(first, tmp_path / "c.lds", resize=32, **JPEG)
    assert smaller.sizes[:].min(axis=1).tolist() == [32] * 11
    assert lds.pack(first, tmp_path / "b.lds", **JPEG).identity == second.identity  # finished already


def test_several_shards_and_stores(folder: Path, tmp_path: Path) -> None:
    first = lds.pack(folder, tmp_path / "a.lds", shard_bytes=1, max_failures=1, **JPEG)
    both = lds.pack(lds.concat([first, first]), tmp_path / "b.lds", **JPEG)
    assert len(both) == 22
    assert both[15][0].shape == first[4][0].shape
    assert [both.encoded(i) for i in range(22)] == [first.encoded(i) for i in range(11)] * 2  # kept as they are
    assert both.samples["source"].to_pylist()[11:] == both.samples["source"].to_pylist()[:11]
    names = lds.pack(first, tmp_path / "c.lds", **JPEG).samples["source"].to_pylist()
    assert names == [name for name in first.samples["source"].to_pylist() if "04.jpg" not in name]


def test_what_can_not_be_packed_again(tmp_path: Path) -> None:
    images = np.stack([pixels(8, 8, seed=i) for i in range(3)])
    whole: dict[str, Any] = {"resize": None, "crop": None, "progress": False}
    floats = lds.pack((images, [0, 1, 2]), tmp_path / "f.lds", dtype="float32", **whole)
    with pytest.raises(ArgumentError, match="has float32 images: expected a store of integers"):
        lds.pack(floats, tmp_path / "x.lds", **JPEG)
    variants = lds.pack((images, [0, 1, 2]), tmp_path / "v.lds", variants=2, augment=lds.Augment(flip=0.5), **whole)
    with pytest.raises(ArgumentError, match="has 2 variants of each image"):
        lds.pack(variants, tmp_path / "x.lds", **JPEG)
    turned = [encode(images[0], exif=b"Exif\0\0" + exif_block(6))]
    ignored = lds.pack(turned, tmp_path / "o.lds", exif_orientation=False, **JPEG)
    with pytest.raises(ArgumentError, match="was packed with exif_orientation=False"):
        lds.pack(ignored, tmp_path / "x.lds", **whole)
    raw = lds.pack(ignored, tmp_path / "x.lds", exif_orientation=False, **whole)
    np.testing.assert_array_equal(raw[0][0], ignored[0][0])


def test_a_store_is_compared_with_its_source(folder: Path, tmp_path: Path) -> None:
    first = lds.pack(folder, tmp_path / "a.lds", max_failures=1, **JPEG)
    second = lds.pack(first, tmp_path / "b.lds", resize=32, **JPEG)
    assert lds.packing.verify_sources(second, first).ok
    with pytest.raises(ArgumentError, match="inside of"):
        lds.pack(first, first.path / "sub", **JPEG)


def test_the_command(folder: Path, tmp_path: Path) -> None:
    jpeg = lds.pack(folder, tmp_path / "jpeg.lds", max_failures=1, **JPEG)
    run = CliRunner().invoke(app, ["pack", "--from-store", str(jpeg.path), str(tmp_path / "raw.lds"), "--resize", "32"])
    assert run.exit_code == 0, run.output
    assert lds.open(tmp_path / "raw.lds").shape == (3, 32, 32)
    two = [str(jpeg.path), str(jpeg.path)]
    run = CliRunner().invoke(app, ["pack", "--from-store", *two, str(tmp_path / "x.lds")])
    assert run.exit_code != 0
