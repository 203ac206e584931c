from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import largeds_native as lds
from largeds_native.errors import ArgumentError, DecodeError, PackError, RowIndexError, StoreError
from tests.builders.trees import make_tree, smooth_pixels

SMALL: dict[str, Any] = {"resize": 16, "crop": 12, "progress": False}
ROW = 3 * 12 * 12


def files_of(store: Path) -> dict[str, bytes]:
    """All files that belong to a store's identity."""
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file() and path.name != "report.json"
    }


def expected_row(path: Path, resize: int = 16, crop: int = 12) -> np.ndarray:
    """torchvision's Resize and CenterCrop on Pillow's image."""
    from torchvision.transforms import functional as tv

    with Image.open(path) as image:
        small = tv.center_crop(tv.resize(image.convert("RGB"), resize), [crop, crop])
    return np.asarray(small).transpose(2, 0, 1)


def test_tree_equals_torchvision(tmp_path: Path) -> None:
    paths = make_tree(tmp_path / "tree")
    store = lds.pack(tmp_path / "tree", tmp_path / "store", shard_bytes=5 * ROW, **SMALL)
    assert len(store) == 12
    assert len(store.shards) == 3
    assert store.shape == (3, 12, 12)
    assert store.classes == ["class0", "class1", "class2"]
    np.testing.assert_array_equal(store["label"][:], np.repeat([0, 1, 2], 4))
    for i, path in enumerate(paths):
        np.testing.assert_array_equal(store.images[i], expected_row(path))
        image, label = store[i]
        np.testing.assert_array_equal(image, store.images[i])
        assert label == i // 4
    with Image.open(paths[0]):
        samples = store.samples.to_pylist()
    assert [row["source"] for row in samples] == [str(path.relative_to(tmp_path / "tree")) for path in paths]
    assert [row["row"] for row in samples] == list(range(12))
    assert {(row["width"], row["height"], row["status"], row["decoder"]) for row in samples} == {(30, 20, "ok", "core")}
    mean, std = store.statistics
    values = np.asarray(store.images) / 255
    np.testing.assert_allclose(mean, values.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, values.std((0, 2, 3)), rtol=1e-12)


def test_plain_numpy_opens_every_shard(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree")
    store = lds.pack(tmp_path / "tree", tmp_path / "store", shard_bytes=5 * ROW, **SMALL)
    joined = np.concatenate([np.load(s.path / "images.npy", mmap_mode="r") for s in store.shards])
    np.testing.assert_array_equal(joined, np.asarray(store.images))


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
@pytest.mark.parametrize("layout", ["CHW", "HWC"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_same_bytes_for_any_number_of_threads(tmp_path: Path, dtype: str, layout: Any, mode: Any) -> None:
    make_tree(tmp_path / "tree")
    (tmp_path / "tree/class1/bad.jpg").write_bytes(b"\xff\xd8\xff rotten")
    options = {**SMALL, "dtype": dtype, "layout": layout, "mode": mode, "shard_bytes": 5 * ROW}
    stores = [lds.pack(tmp_path / "tree", tmp_path / f"s{n}", threads=n, **options) for n in (1, 2, 8)]
    contents = [files_of(store.path) for store in stores]
    assert contents[0] == contents[1] == contents[2]
    assert len({store.identity for store in stores}) == 1
    channels = 3 if mode == "RGB" else 1
    assert stores[0].shape == ((channels, 12, 12) if layout == "CHW" else (12, 12, channels))


def test_float_rows_are_normalised(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree")
    plain = lds.pack(tmp_path / "tree", tmp_path / "u8", **SMALL)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    store = lds.pack(tmp_path / "tree", tmp_path / "f4", dtype="float32", mean=mean, std=std, **SMALL)
    assert store.mean == mean
    assert store.std == std
    m, s = (np.asarray(v).reshape(3, 1, 1) for v in (mean, std))
    np.testing.assert_allclose(store.images, (np.asarray(plain.images) / 255 - m) / s, rtol=1e-6, atol=1e-6)
    unit = lds.pack(tmp_path / "tree", tmp_path / "unit", dtype="float32", **SMALL)
    assert unit.mean is None
    np.testing.assert_array_equal(unit.images, (np.asarray(plain.images) / 255).astype(np.float32))
    assert unit.statistics == plain.statistics


def test_failed_images_leave_no_gap(tmp_path: Path) -> None:
    paths = make_tree(tmp_path / "tree")
    bad = [paths[0], paths[5], paths[11]]
    bad[0].write_bytes(b"")
    bad[1].write_bytes(b"no image at all")
    bad[2].write_bytes(bad[2].read_bytes()[:60])
    store = lds.pack(tmp_path / "tree", tmp_path / "store", shard_bytes=5 * ROW, max_failures=3, **SMALL)
    good = [path for path in paths if path not in bad]
    assert len(store) == 9
    for i, path in enumerate(good):
        np.testing.assert_array_equal(store.images[i], expected_row(path))
    assert store["label"][:].tolist() == [int(path.parent.name[-1]) for path in good]
    report = store.report
    assert report is not None
    assert (report.packed, report.total) == (9, 12)
    assert [failure.source for failure in report.failures] == [str(path.relative_to(tmp_path / "tree")) for path in bad]
    assert all(failure.error and str(tmp_path) not in failure.error for failure in report.failures)
    rows = store.samples["row"].to_pylist()
    assert [row for row in rows if row >= 0] == list(range(9))
    assert rows.count(-1) == 3
    assert "9 of 12" in str(report)
    with pytest.raises(DecodeError, match=r"0000\.png"):
        lds.pack(tmp_path / "tree", tmp_path / "strict", on_error="raise", **SMALL)
    with pytest.raises(StoreError, match="is an unfinished pack"):
        lds.open(tmp_path / "strict")


def test_formats_that_only_pillow_reads(tmp_path: Path) -> None:
    folder = tmp_path / "tree/a"
    folder.mkdir(parents=True)
    Image.fromarray(smooth_pixels(1)).save(folder / "1.bmp")
    Image.fromarray(smooth_pixels(2)).save(folder / "2.tiff")
    Image.fromarray(smooth_pixels(3)).save(folder / "3.png")
    store = lds.pack(tmp_path / "tree", tmp_path / "store", **SMALL)
    for i, name in enumerate(["1.bmp", "2.tiff", "3.png"]):
        np.testing.assert_array_equal(store.images[i], expected_row(folder / name))
    assert store.report is not None
    assert store.report.decoders == {"Pillow": 2, "core": 1}
    assert store.samples["decoder"].to_pylist() == ["Pillow", "Pillow", "core"]


def test_size_of_the_first_good_image(tmp_path: Path) -> None:
    paths = make_tree(tmp_path / "tree")
    paths[0].write_bytes(b"rotten")
    store = lds.pack(tmp_path / "tree", tmp_path / "store", resize=None, crop=None, progress=False)
    assert store.shape == (3, 20, 30)
    assert len(store) == 11
    short = lds.pack(tmp_path / "tree", tmp_path / "short", resize=10, crop=None, progress=False)
    assert short.shape == (3, 10, 15)


def test_arrays(tmp_path: Path) -> None:
    images = np.stack([smooth_pixels(i) for i in range(7)])
    labels = np.arange(7) * 3
    for name, given in {"hwc": images, "chw": images.transpose(0, 3, 1, 2)}.items():
        store = lds.pack((given, labels), tmp_path / name, resize=None, crop=None, progress=False)
        np.testing.assert_array_equal(store.images, images.transpose(0, 3, 1, 2))
        np.testing.assert_array_equal(store["label"], labels)
    from torchvision.transforms import functional as tv

    small = lds.pack((images, labels), tmp_path / "small", resize=(9, 11), crop=None, layout="HWC", progress=False)
    for i in range(7):
        np.testing.assert_array_equal(small.images[i], np.asarray(tv.resize(Image.fromarray(images[i]), [9, 11])))
    grey = lds.pack((images, labels), tmp_path / "grey", resize=None, crop=None, mode="L", progress=False)
    np.testing.assert_array_equal(grey.images[2][0], np.asarray(Image.fromarray(images[2]).convert("L")))


def test_all_uses_of_a_store(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree")
    store = lds.pack(tmp_path / "tree", tmp_path / "store", shard_bytes=5 * ROW, **SMALL)
    again = pickle.loads(pickle.dumps(store))
    assert again.path == store.path
    assert again.identity == store.identity
    np.testing.assert_array_equal(store.rows.read([11, 0]).reshape(2, 3, 12, 12), store.images[[11, 0]])
    assert store.field_rows("label").read([5]).view(np.int64).item() == 1
    with lds.open(str(store.path)) as other:
        assert len(other) == 12
    text = repr(store)
    assert all(word in text for word in ("12 images", "uint8", "3 classes", "label", "3 shards"))
    with pytest.raises(RowIndexError, match="row 12"):
        store[12]
    with pytest.raises(StoreError, match="no field 'boxes'; its fields are: label"):
        store["boxes"]
    with pytest.raises(TypeError):
        store[1.5]
    assert store.images[3:7].base is not None or True
    with pytest.raises(ValueError, match="read-only"):
        store.images[0][:] = 0


def test_damaged_stores_do_not_open(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree")
    store = lds.pack(tmp_path / "tree", tmp_path / "store", shard_bytes=5 * ROW, **SMALL)
    path = store.shards[1].path / "images.npy"
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(StoreError, match=r"shard-00001/images\.npy is short"):
        lds.open(store.path)
    path.unlink()
    with pytest.raises(StoreError, match="missing"):
        lds.open(store.path)
    path.write_bytes(data)
    lds.open(store.path)


def test_outputs_that_are_not_stores(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree")
    (tmp_path / "file").touch()
    with pytest.raises(PackError, match="is not a folder"):
        lds.pack(tmp_path / "tree", tmp_path / "file", **SMALL)
    with pytest.raises(PackError, match="exists and is not a store"):
        lds.pack(tmp_path / "tree", tmp_path / "tree", **SMALL)
    assert len(list((tmp_path / "tree").iterdir())) == 3
    store = lds.pack(tmp_path / "tree", tmp_path / "store", **SMALL)
    before = files_of(store.path)
    assert lds.pack(tmp_path / "tree", tmp_path / "store", **SMALL).identity == store.identity
    with pytest.raises(PackError, match="finished store of another job"):
        lds.pack(tmp_path / "tree", tmp_path / "store", **{**SMALL, "crop": 8})
    assert files_of(store.path) == before


def test_sources_without_an_image(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="does not exist"):
        lds.pack(tmp_path / "none", tmp_path / "out", **SMALL)
    (tmp_path / "empty/a").mkdir(parents=True)
    with pytest.raises(PackError, match="has no image"):
        lds.pack(tmp_path / "empty", tmp_path / "out", **SMALL)
    (tmp_path / "empty/a/x.png").touch()
    with pytest.raises(PackError, match=r"none of the 1 images.*x\.png"):
        lds.pack(tmp_path / "empty", tmp_path / "out", **SMALL)
    with pytest.raises(PackError, match=r"none of the first 1 images.*x\.png"):
        lds.pack(tmp_path / "empty", tmp_path / "out2", resize=None, crop=None, progress=False)
    with pytest.raises(StoreError):
        lds.open(tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"resize": 0}, "resize"),
        ({"resize": "big"}, "resize"),
        ({"crop": (1, 2, 3)}, "crop"),
        ({"crop": True}, "crop"),
        ({"interpolation": "cubic"}, "interpolation: expected one of"),
        ({"decode": "fast"}, "decode"),
        ({"dtype": "float64"}, "dtype"),
        ({"dtype": object}, "dtype"),
        ({"layout": "NCHW"}, "layout"),
        ({"mode": "RGBA"}, "mode"),
        ({"mean": (0, 0, 0)}, "expected mean and std together"),
        ({"mean": (0, 0, 0), "std": (1, 1, 1)}, "packing floats only"),
        ({"mean": (0, 0), "std": (1, 1), "dtype": "float32"}, "expected 3"),
        ({"mean": (0, 0, 0), "std": (1, 0, 1), "dtype": "float32"}, "positive"),
        ({"variants": 2}, "needs an augment"),
        ({"augment": object(), "variants": 2}, "expected a largeds_native.Augment"),
        ({"augment": lds.Augment(random_crop=300)}, "does not fit into images of 224x224"),
        ({"augment": lds.Augment(flip=0.5), "seed": -1}, "seed"),
        ({"shuffle": -1}, "shuffle"),
        ({"shard_bytes": 0}, "shard_bytes"),
        ({"threads": 0}, "threads"),
        ({"on_error": "ignore"}, "on_error"),
        ({"truncated": "maybe"}, "truncated"),
        ({"max_pixels": 0}, "max_pixels"),
    ],
)
def test_invalid_options(tmp_path: Path, options: dict[str, Any], expected: str) -> None:
    make_tree(tmp_path / "tree", 1, 1)
    with pytest.raises(ArgumentError, match=expected):
        lds.pack(tmp_path / "tree", tmp_path / "out", **{"progress": False, **options})
    assert not (tmp_path / "out").exists()
