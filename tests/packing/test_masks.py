"""Masks: packed from every kind of source, kept exactly, verified, and refused with the reason."""

from __future__ import annotations

import io
import tarfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import largeds_native as lds
from largeds_native import sources
from largeds_native.errors import ArgumentError, PackError
from largeds_native.packing import verify_sources
from tests.builders.images import pixels
from tests.builders.masks import make_mask_tree, mask_numbers, save_mask

KEEP: dict[str, Any] = {"resize": None, "crop": None, "progress": False}


def resized(numbers: np.ndarray[Any, Any], height: int, width: int) -> np.ndarray[Any, Any]:
    """Pillow's nearest neighbour; of 16 bits by the row and column numbers of an 8-bit image of each."""
    at = np.arange(max(numbers.shape))
    assert at.max() < 256
    rows, columns = np.meshgrid(at[: numbers.shape[0]], at[: numbers.shape[1]], indexing="ij")
    size = (width, height)
    y, x = (
        np.asarray(Image.fromarray(one.astype(np.uint8)).resize(size, Image.Resampling.NEAREST))
        for one in (rows, columns)
    )
    return numbers[y, x]


def shrunk(numbers: np.ndarray[Any, Any], side: int) -> np.ndarray[Any, Any]:
    """The shorter side is `side`, as torchvision's Resize has it."""
    height, width = numbers.shape
    return resized(
        numbers, *((side, int(side * width / height)) if width > height else (int(side * height / width), side))
    )


@pytest.mark.parametrize("highest", [20, 40_000])
def test_raw_masks_get_the_geometry_of_their_images(tmp_path: Path, highest: int) -> None:
    tree = make_mask_tree(tmp_path, highest=highest)
    store = lds.pack(
        tree.images, tmp_path / "s.lds", masks=tree.masks, resize=32, crop=24, shard_bytes=10_000, progress=False
    )
    assert store.fields == ("label", "mask")
    assert len(store.shards) > 1
    assert store["mask"].dtype == (np.uint8 if highest < 256 else np.uint16)
    for found, numbers in zip(store["mask"], tree.numbers, strict=True):
        small = shrunk(numbers, 32)
        top, left = (round((side - 24) / 2) for side in small.shape)
        np.testing.assert_array_equal(found, small[top : top + 24, left : left + 24])
    mapped = np.load(store.path / "shard-00000" / "mask.npy", mmap_mode="r")
    np.testing.assert_array_equal(mapped, store["mask"][: len(mapped)])
    assert store.manifest["version"] == 3


@pytest.mark.parametrize("highest", [20, 40_000])
@pytest.mark.parametrize("resize", [None, 30])
def test_masks_beside_jpeg_rows(tmp_path: Path, highest: int, resize: int | None) -> None:
    tree = make_mask_tree(tmp_path, highest=highest)
    store = lds.pack(
        tree.images,
        tmp_path / "s.lds",
        codec="jpeg",
        masks=tree.masks,
        resize=resize,
        shard_bytes=100_000,
        progress=False,
    )
    assert len(store["mask"]) == len(tree.numbers)
    for i, numbers in enumerate(tree.numbers):
        expected = numbers if resize is None else shrunk(numbers, resize)
        assert store["mask"][i].shape == store.images[i].shape[1:]
        assert store["mask"].dtype == (np.uint8 if highest < 256 else np.uint16)
        np.testing.assert_array_equal(store["mask"][i], expected)
        path, offset, length = store.file_range(i, "mask")
        with open(path, "rb") as file:
            file.seek(offset)
            np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(file.read(length)))), expected)
    assert store.verify().ok


def test_the_same_bytes_from_any_number_of_threads(tmp_path: Path) -> None:
    tree = make_mask_tree(tmp_path, each=6)
    for codec, options in (("raw", {"resize": 30, "crop": 24}), ("jpeg", {"resize": 36})):
        written = []
        for threads in (1, 3):
            out = tmp_path / f"{codec}{threads}.lds"
            lds.pack(tree.images, out, codec=codec, masks=tree.masks, threads=threads, progress=False, **options)
            files = sorted(path for path in out.rglob("*") if path.is_file() and path.name != "report.json")
            written.append({str(path.relative_to(out)): path.read_bytes() for path in files})
        assert written[0] == written[1]
        assert any("mask" in name for name in written[0])


# ---- sources -------------------------------------------------------------------------------------------------------


def image_bytes(pixels_or_numbers: np.ndarray[Any, Any], kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels_or_numbers).save(out, kind)
    return out.getvalue()


IMAGES = [pixels(20, 24, seed=i) for i in range(6)]
MASKS = [mask_numbers(20, 24, i) for i in range(6)]


@pytest.mark.parametrize("codec", ["raw", "jpeg"])
@pytest.mark.parametrize("bad", [np.zeros((20, 24), np.float32), np.full((20, 24), 1 << 40), -1 - MASKS[0].astype(int)])
def test_a_mask_of_a_dataset_that_is_no_mask_fails_alone(tmp_path: Path, codec: Any, bad: Any) -> None:
    samples = [(image, mask, 0) for image, mask in zip(IMAGES, [*MASKS[:-1], bad], strict=True)]
    options = {"resize": None, "progress": False, **({"crop": None} if codec == "raw" else {})}
    store = lds.pack(samples, tmp_path / "s.lds", codec=codec, max_failures=1, key="x", **options)
    assert len(store) == len(IMAGES) - 1
    assert store.report is not None
    assert [failure.reason for failure in store.report.failures] == ["unsupported"]
    assert "expected" in store.report.failures[0].error


def test_masks_that_are_nowhere(tmp_path: Path) -> None:
    tree = make_mask_tree(tmp_path)
    for masks in (3, True, "", [tree.masks], tmp_path / "none"):
        with pytest.raises(ArgumentError, match="masks: expected a folder, found"):
            lds.pack(tree.images, tmp_path / "s.lds", masks=masks, **KEEP)
    with pytest.raises(ArgumentError, match="masks: expected where the masks are, found an empty mapping"):
        lds.pack(tree.images, tmp_path / "s.lds", masks={}, **KEEP)
    samples = [{"image": image, "seg": mask} for image, mask in zip(IMAGES, MASKS, strict=True)]
    with pytest.raises(ArgumentError, match="has no key 'segs', its keys are image, seg"):
        lds.pack(samples, tmp_path / "s.lds", masks="segs", key="x", **KEEP)
    table = pa.table({"path": ["a.png", "b.png"], "mask": ["m/a.png", "m/none.png"]})
    pq.write_table(table, tmp_path / "x.parquet")
    (tmp_path / "m").mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(IMAGES[0]).save(tmp_path / name)
    save_mask(MASKS[0], tmp_path / "m/a.png")
    source = sources.table(tmp_path / "x.parquet", masks="mask")
    store = lds.pack(source, tmp_path / "s.lds", max_failures=1, **KEEP)
    assert store.report is not None
    assert "'m/none.png'" in store.report.failures[0].error


def check(store: Any, name: str = "mask", expected: Any = None) -> None:
    np.testing.assert_array_equal(np.stack([store[name][i] for i in range(len(store))]), np.stack(expected or MASKS))
    assert store.verify().ok


@pytest.mark.parametrize("codec", ["raw", "jpeg"])
def test_arrays(tmp_path: Path, codec: Any) -> None:
    for number, dtype in enumerate((np.uint8, np.int64, np.uint16)):
        masks = np.stack(MASKS).astype(dtype)
        store = lds.pack(
            (np.stack(IMAGES), np.arange(6)), tmp_path / f"{number}", codec=codec, masks=masks, ignore=255, **KEEP
        )
        check(store)
        assert store["mask"][0].dtype == np.uint8
        assert store.metadata.pictures["mask"].ignore == 255
    wide = [mask.astype(np.int64) * 3000 for mask in MASKS]
    named = {"instance": torch.from_numpy(np.stack(wide)), "semantic": np.stack(MASKS) > 10}
    store = lds.pack(sources.arrays(np.stack(IMAGES), masks=named), tmp_path / "named", codec=codec, **KEEP)
    assert store.fields == ("instance", "semantic")
    check(store, "instance", wide)
    check(store, "semantic", [mask > 10 for mask in MASKS])


def test_numbers_of_32_bits_are_for_raw_rows(tmp_path: Path) -> None:
    masks = np.stack(MASKS).astype(np.int64) - 70_000
    store = lds.pack((np.stack(IMAGES), np.arange(6)), tmp_path / "raw", masks=masks, resize=10, crop=8, progress=False)
    assert store["mask"].dtype == np.int32
    for found, numbers in zip(store["mask"], masks, strict=True):
        np.testing.assert_array_equal(found, resized(numbers, 10, 12)[1:9, 2:10])
    with pytest.raises(ArgumentError, match=r"has values of int32 with 1 channel, and the PNG rows"):
        lds.pack((np.stack(IMAGES), np.arange(6)), tmp_path / "jpeg", codec="jpeg", masks=masks, **KEEP)


class Samples(list[Any]):
    """A Dataset."""

    classes = ("a", "b")


@pytest.mark.parametrize("codec", ["raw", "jpeg"])
@pytest.mark.parametrize(
    "form", ["pair", "triple", "dict", "keys", "tensors", "palettes", "bytes", "paths"], ids=lambda form: form
)
def test_datasets(tmp_path: Path, codec: Any, form: str) -> None:
    options: dict[str, Any] = {}
    samples = Samples()
    for i, (image, mask) in enumerate(zip(IMAGES, MASKS, strict=True)):
        palette = Image.fromarray(mask, "P")
        palette.putpalette([255 - j // 3 for j in range(768)])
        (tmp_path / f"{i}.png").write_bytes(image_bytes(mask))
        samples.append(
            {
                "pair": (image, Image.fromarray(mask)),
                "triple": (Image.fromarray(image), mask, i % 2),
                "dict": {"image": image, "mask": mask, "label": i % 2},
                "keys": {"image": image, "near": mask, "far": mask + 1},
                "tensors": (torch.from_numpy(image.transpose(2, 0, 1).copy()), torch.from_numpy(mask)[None].long()),
                "palettes": (image, palette),
                "bytes": {"image": image_bytes(image), "mask": image_bytes(mask)},
                "paths": {"image": image_bytes(image), "mask": tmp_path / f"{i}.png"},
            }[form]
        )
    if form == "keys":
        options["masks"] = ["near", "far"]
    store = lds.pack(samples, tmp_path / "s.lds", codec=codec, key="x", **options, **KEEP)
    check(store, "near" if form == "keys" else "mask")
    if form == "keys":
        check(store, "far", [mask + 1 for mask in MASKS])
    assert ("label" in store.fields) == (form in ("triple", "dict"))


def test_voc_of_torchvision(tmp_path: Path) -> None:
    """Its samples are (image, mask with a palette) of Pillow."""
    torchvision = pytest.importorskip("torchvision")
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for i in range(6):
        Image.fromarray(IMAGES[i]).save(root / f"JPEGImages/{i}.jpg")
        save_mask(MASKS[i], root / f"SegmentationClass/{i}.png", palette=True)
    (root / "ImageSets/Segmentation/train.txt").write_text("\n".join(map(str, range(6))))
    voc = torchvision.datasets.VOCSegmentation(tmp_path, "2012", "train")
    check(lds.pack(voc, tmp_path / "s.lds", ignore=255, **KEEP))


def test_tables(tmp_path: Path) -> None:
    lines = ["path,seg,label"]
    for i in range(6):
        Image.fromarray(IMAGES[i]).save(tmp_path / f"{i}.jpg")
        save_mask(MASKS[i], tmp_path / f"{i}_seg.png", palette=i % 2 == 0)
        lines.append(f"{i}.jpg,{i}_seg.png,{i}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    check(lds.pack(tmp_path / "t.csv", tmp_path / "s.lds", masks="seg", **KEEP))
    check(lds.pack(tmp_path / "t.csv", tmp_path / "n.lds", masks={"parts": "seg"}, codec="jpeg", **KEEP), "parts")
    cells = [{"bytes": image_bytes(image, "JPEG"), "path": None} for image in IMAGES]
    masks = [{"bytes": image_bytes(mask), "path": None} for mask in MASKS]
    pq.write_table(pa.table({"image": cells, "annotation": masks}), tmp_path / "t.parquet")
    store = lds.pack(tmp_path / "t.parquet", tmp_path / "p.lds", masks="annotation", **KEEP)
    check(store)
    assert "annotation" not in " ".join(store.report.notes[1:])
    with pytest.raises(ArgumentError, match=r"expected a column 'nowhere', found"):
        lds.pack(tmp_path / "t.csv", tmp_path / "x.lds", masks="nowhere", **KEEP)


def test_tar_files(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        for i in range(6):
            for ending, data in (
                ("jpg", image_bytes(IMAGES[i], "JPEG")),
                ("mask.png", image_bytes(MASKS[i])),
                ("seg.tif", image_bytes(MASKS[i] + 1, "TIFF")),
                ("cls", b"1"),
            ):
                member = tarfile.TarInfo(f"{i}.{ending}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    for codec in ("raw", "jpeg"):
        store = lds.pack(tmp_path / "t.tar", tmp_path / codec, codec=codec, **KEEP)
        assert store.fields == ("label", "mask", "seg")
        check(store)
        check(store, "seg", [mask + 1 for mask in MASKS])


def test_hugging_face(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"image": datasets.Image(), "annotation": datasets.Image(), "scene": datasets.Value("int64")}
    )
    cells = {
        "image": [{"bytes": image_bytes(image, "JPEG"), "path": None} for image in IMAGES],
        "annotation": [{"bytes": image_bytes(mask), "path": None} for mask in MASKS],
        "scene": list(range(6)),
    }
    data = datasets.Dataset.from_dict(cells, features)
    check(lds.pack(sources.hugging_face(data, label="scene", masks="annotation"), tmp_path / "s.lds", **KEEP))
    check(lds.pack(data, tmp_path / "t.lds", codec="jpeg", masks="annotation", **KEEP))


@pytest.mark.parametrize("ending", [".tif", ".bmp", ".gif"])
def test_other_formats_without_loss(tmp_path: Path, ending: str) -> None:
    tree = make_mask_tree(tmp_path, one_size=True, ending=ending)
    for codec in ("raw", "jpeg"):
        check(lds.pack(tree.images, tmp_path / codec, codec=codec, masks=tree.masks, **KEEP), expected=tree.numbers)


def test_png_of_few_bits_and_interlaced(tmp_path: Path) -> None:
    (tmp_path / "i").mkdir()
    (tmp_path / "m").mkdir()
    bits = [mask_numbers(21, 23, i, 1) for i in range(3)]
    for i in range(3):
        Image.fromarray(pixels(21, 23, seed=i)).save(tmp_path / f"i/{i}.png")
    Image.fromarray(bits[0].astype(bool)).save(tmp_path / "m/0.png")  # one bit a pixel
    Image.fromarray(bits[1], "P").save(tmp_path / "m/1.png", bits=2)
    Image.fromarray(bits[2]).save(tmp_path / "m/2.png")
    for codec in ("raw", "jpeg"):
        check(lds.pack(tmp_path / "i", tmp_path / codec, codec=codec, masks=tmp_path / "m", **KEEP), expected=bits)


def test_masks_of_a_store(tmp_path: Path) -> None:
    """From JPEG rows to raw ones and back, the masks stay exact."""
    tree = make_mask_tree(tmp_path, one_size=True)
    jpeg = lds.pack(tree.images, tmp_path / "jpeg", codec="jpeg", masks=tree.masks, ignore=7, **KEEP)
    raw = lds.pack(jpeg, tmp_path / "raw", **KEEP)
    again = lds.pack(raw, tmp_path / "again", codec="jpeg", **KEEP)
    for store in (jpeg, raw, again):
        check(store, expected=tree.numbers)
        assert store.metadata.pictures["mask"].ignore == 7
    with pytest.raises(ArgumentError, match=r"those of .* are taken as they are: leave them out"):
        lds.pack(jpeg, tmp_path / "x", masks=tree.masks, **KEEP)


# ---- what fails ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["raw", "jpeg"])
def test_samples_that_fail_with_their_masks(tmp_path: Path, codec: Any) -> None:
    tree = make_mask_tree(tmp_path, each=24, one_size=True)
    first = tree.masks / "class0"
    (first / "00.png").unlink()
    save_mask(mask_numbers(40, 40, 1), first / "01.png")
    (first / "02.png").write_bytes((first / "02.png").read_bytes()[:100])
    Image.fromarray(pixels(40, 48, seed=1)).save(first / "03.png")
    Image.fromarray(mask_numbers(40, 48, 1)).save(first / "04.png", "JPEG")
    save_mask(mask_numbers(40, 48, 1, 40_000), first / "05.png")
    (first / "06.png").write_bytes(b"no image")
    (tree.images / "class0" / "07.jpg").write_bytes(b"no image")
    options = {"codec": codec, "masks": tree.masks, "max_failures": 8, **KEEP}
    store = lds.pack(sources.folder(tree.images, masks=tree.masks), tmp_path / "s", codec=codec, max_failures=8, **KEEP)
    check(store, expected=tree.numbers[8:])
    for i in range(8):
        error = np.abs(store.images[i].astype(int) - pixels(40, 48, seed=8 + i).transpose(2, 0, 1)).mean()
        assert error < 20  # the images stay beside their masks
    assert store["label"][:].tolist() == [0] * 16 + [1] * 24
    table = store.samples.to_pylist()
    errors = [(line["status"], line["error"]) for line in table[:8]]
    for (status, error), (reason, words) in zip(
        errors,
        [
            ("missing", "expected a mask class0/00.png in"),
            (
                "mask_size",
                "found 40 x 40" if codec == "raw" else "has 40x40 pixels (height x width), and the image 40x48",
            ),
            ("truncated", "mask: PNG: the file ends early"),
            ("unsupported", "one number a pixel, found colours"),
            ("unsupported", "JPEG changes the numbers of a mask"),
            ("unsupported", "expected numbers of uint8, as the first masks have, found"),
            ("corrupt", "not an image that Pillow reads"),
            ("unsupported", ""),
        ],
        strict=True,
    ):
        assert status == reason, error
        assert words in error
        assert str(tmp_path / "masks" / "class0") not in error or status == "missing"
    with pytest.raises(PackError, match="8 of the 48 images"):
        lds.pack(tree.images, tmp_path / "few", **{**options, "max_failures": 7})


@pytest.mark.parametrize("codec", ["raw", "jpeg"])
def test_resume(tmp_path: Path, codec: str) -> None:
    tree = make_mask_tree(tmp_path, each=8, one_size=True)
    kind: dict[str, Any] = {"shard_bytes": 3 * 40 * 48 * 5, **KEEP}
    if codec == "jpeg":
        kind = {"codec": "jpeg", "resize": None, "shard_bytes": 3 << 17, "progress": False}
    options: dict[str, Any] = {"masks": tree.masks, **kind}
    (tree.masks / "class1" / "07.png").unlink()
    with pytest.raises(PackError):
        lds.pack(tree.images, tmp_path / "s", max_failures=0, **options)
    store = lds.pack(tree.images, tmp_path / "s", max_failures=1, **options)
    assert store.report is not None
    assert store.report.resumed_shards == len(store.shards) > 1
    for mask, expected in zip(store["mask"], tree.numbers[:15], strict=True):
        np.testing.assert_array_equal(mask, expected)
    other = make_mask_tree(tmp_path / "other", each=8, one_size=True)
    with pytest.raises(PackError):  # other masks are another job
        lds.pack(tree.images, tmp_path / "s", max_failures=1, **{**options, "masks": other.masks})


def test_damage_is_found(tmp_path: Path) -> None:
    tree = make_mask_tree(tmp_path, one_size=True)
    raw = lds.pack(tree.images, tmp_path / "raw", masks=tree.masks, **KEEP)
    jpeg = lds.pack(tree.images, tmp_path / "jpeg", codec="jpeg", masks=tree.masks, **KEEP)
    for store, path, offset in (
        (raw, raw.path / "shard-00000" / "mask.npy", 4096 + 3 * 40 * 48 + 5),
        (jpeg, *jpeg.file_range(3, "mask")[:2]),
    ):
        with open(path, "r+b") as file:
            file.seek(offset)
            file.write(b"\x7f")
        assert list(lds.open(store.path).verify()) == [3]


def test_the_sources_are_verified_with_their_masks(tmp_path: Path) -> None:
    tree = make_mask_tree(tmp_path)
    for codec in ("raw", "jpeg"):
        options = {"resize": 32, "crop": 24} if codec == "raw" else {}
        store = lds.pack(tree.images, tmp_path / codec, codec=codec, masks=tree.masks, progress=False, **options)
        with pytest.raises(lds.LargedsError, match="pass the source with them"):
            verify_sources(store)
        assert verify_sources(store, sources.folder(tree.images, masks=tree.masks)).ok
        path = tree.masks / "class0" / "02.png"
        before = path.read_bytes()
        save_mask((tree.numbers[2] + 1) % 20, path)
        found = verify_sources(store, sources.folder(tree.images, masks=tree.masks))
        assert found.different == ("class0/02.jpg",)
        path.write_bytes(before)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"masks": "nowhere"}, "masks: expected a folder, found 'nowhere'"),
        ({"ignore": 3}, "ignore: it is a number of masks: pass masks= too"),
        ({"masks": {"a/b": "m"}}, "masks: expected a field's name"),
        ({"masks": {"label": "m"}}, "has a field 'label': give the mask another name"),
        ({"masks": "m", "ignore": 256}, "from 0 to 255 as the masks are uint8, found 256"),
        ({"masks": "m", "ignore": True}, "ignore: expected a number"),
        ({"masks": "m", "augment": lds.Augment(flip=0.5), "variants": 2}, "masks 'mask' are not augmented ahead"),
        ({"masks": "empty"}, "masks: expected files named .png"),
        ({"masks": "double"}, "nothing tells which is the mask"),
    ],
)
def test_masks_that_can_not_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: Any, words: str) -> None:
    tree = make_mask_tree(tmp_path, one_size=True)
    tree.masks.rename(tmp_path / "m")
    (tmp_path / "empty").mkdir()
    (tmp_path / "double").mkdir()
    for name in ("a.png", "a.tif"):
        save_mask(mask_numbers(4, 4, 0), tmp_path / "double" / name)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArgumentError, match=words):
        lds.pack(tree.images, tmp_path / "s", **{**KEEP, **options})


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        (np.zeros((6, 20, 24, 3), np.uint8), r"'mask': expected integers of shape \(6, H, W\), found uint8"),
        (np.zeros((5, 20, 24), np.uint8), "expected integers of shape"),
        (np.zeros((6, 20, 24)), "found float64"),
        (np.zeros((6, 20, 23), np.uint8), r"expected 6 masks of \(20, 24\), found 6 of \(20, 23\)"),
        (np.full((6, 20, 24), 1 << 40), "expected numbers of at most 32 bits"),
    ],
)
def test_arrays_that_are_no_masks(tmp_path: Path, masks: Any, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        lds.pack((np.stack(IMAGES), np.arange(6)), tmp_path / "s", masks=masks, **KEEP)


def test_a_store_without_masks_stays_as_it_was(tmp_path: Path) -> None:
    tree = make_mask_tree(tmp_path, one_size=True)
    for codec, version in (("raw", 1), ("jpeg", 2)):
        store = lds.pack(tree.images, tmp_path / codec, codec=codec, **KEEP)
        assert store.manifest["version"] == version
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert "role" not in str(store.manifest)
