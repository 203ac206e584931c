"""Batches from JPEG rows: bit for bit those of Pillow, from whatever a row is, and what happens to damaged rows."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import largeds_native as lds
from largeds_native.errors import ArgumentError, DecodeError, LargedsError, StoreError
from tests.builders.images import encode, exif_block, pixels
from tests.builders.jpeg_rows import read_rows, shown
from tests.builders.stores import make_labelled_store
from tests.loading.epochs import MEAN, STD, assert_same, epoch_of
from tests.reference import gathered_sample

ROWS = 24
TRAIN = lds.Augment(resized_crop=24, flip=0.5)
VALIDATE = lds.Augment(resize=40, center_crop=32)


def image_file(i: int) -> bytes:
    """Files of every kind that a pack keeps: verbatim, transcoded and encoded, in many sizes."""
    image = pixels(41 + 7 * (i % 5), 90 - 11 * (i % 4), seed=i)
    options: dict[str, Any] = {"quality": 80 + i % 4 * 5, "subsampling": i % 3}
    match i % 8:
        case 1:
            return encode(image, progressive=True, **options)
        case 2:
            return encode(image, exif=b"Exif\0\0" + exif_block(1 + i % 8), **options)
        case 3:
            return encode(image[..., :1], **{**options, "subsampling": 0})
        case 4:
            return encode(image, progressive=True, exif=b"Exif\0\0" + exif_block(6), **options)
        case 5:
            return encode(image, "PNG")
        case 6:
            return encode(image, restart_marker_blocks=3, **options)
        case _:
            return encode(image, **options)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Row i has label i; several shards."""
    files = [image_file(i) for i in range(ROWS)]
    folder = tmp_path_factory.mktemp("jpeg") / "s.lds"
    found = lds.pack(zip(files, range(ROWS), strict=True), folder, codec="jpeg", shard_bytes=300_000, progress=False)
    assert len(found) == ROWS
    assert len(found.shards) > 1
    return found


@pytest.fixture
def copied(store: Any, tmp_path: Path) -> Any:
    """A copy of the store that a test may damage."""
    shutil.copytree(store.path, tmp_path / "copy.lds")
    return lds.open(tmp_path / "copy.lds")


@pytest.fixture(scope="module")
def images(store: Any) -> list[np.ndarray[Any, Any]]:
    return [shown(file) for file in read_rows(store.path).files]


def loader(store: Any, **options: Any) -> lds.Loader:
    return lds.Loader(store, 5, **{"augment": TRAIN, "dtype": torch.uint8, "seed": 7} | options)


AUGMENTS: list[tuple[lds.Augment, dict[str, Any]]] = [
    (TRAIN, {"crop": "random_resized", "out_height": 24, "out_width": 24, "flip": 0.5}),
    (
        lds.Augment(resized_crop=(50, 17), scale=(0.3, 0.9), ratio=(0.5, 1.0), interpolation="bicubic"),
        {"crop": "random_resized", "out_height": 50, "out_width": 17, "scale": (0.3, 0.9), "ratio": (0.5, 1.0),
         "filter": "bicubic"},
    ),
    (VALIDATE, {"resize": 40, "crop": "center", "out_height": 32, "out_width": 32}),
    (
        lds.Augment(resize=70, center_crop=(33, 64), interpolation="bicubic", flip=0.5),
        {"resize": 70, "crop": "center", "out_height": 33, "out_width": 64, "filter": "bicubic", "flip": 0.5},
    ),
    (lds.Augment(resize=(20, 31)), {"resize": (20, 31), "crop": "center", "out_height": 20, "out_width": 31}),
    (lds.Augment(center_crop=41), {"crop": "center", "out_height": 41, "out_width": 41}),
    (
        lds.Augment(random_crop=48, padding=9, flip=0.5),
        {"crop": "random", "padding": 9, "out_height": 48, "out_width": 48, "flip": 0.5},
    ),
]  # fmt: skip


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("augment", "options"), AUGMENTS)
def test_batches_equal_pillow(
    store: Any, images: list[Any], augment: lds.Augment, options: dict[str, Any], threads: int
) -> None:
    batches = loader(store, augment=augment, shuffle=True, threads=threads)
    for epoch in range(2):
        for found, labels in batches:
            for sample, label in zip(found, labels.tolist(), strict=True):
                expected = gathered_sample(images[label], label, 7, epoch, options)
                np.testing.assert_array_equal(sample.numpy(), expected)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_floats_are_the_normalised_bytes(store: Any, dtype: torch.dtype, channels_last: bool) -> None:
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    expected = [(plain / 255 - mean) / std for plain, _ in loader(store)]
    found = [batch for batch, _ in loader(store, mean=MEAN, std=STD, dtype=dtype, channels_last=channels_last)]
    for one, other in zip(found, expected, strict=True):
        tolerance = 1e-5 if dtype is torch.float32 else 0.02
        torch.testing.assert_close(one.float(), other, atol=tolerance, rtol=tolerance)


def test_grey_stores_equal_pillows_convert(tmp_path: Path) -> None:
    files = [image_file(i) for i in range(ROWS)]
    store = lds.pack(files, tmp_path / "grey.lds", codec="jpeg", mode="L", progress=False)
    options = {"crop": "random_resized", "out_height": 24, "out_width": 24, "flip": 0.5}
    rows = read_rows(store.path).files
    [(found,)] = list(lds.Loader(store, ROWS, augment=TRAIN, dtype=torch.uint8, seed=7))
    for i in range(ROWS):
        np.testing.assert_array_equal(found[i].numpy(), gathered_sample(shown(rows[i], "L"), i, 7, 0, options))


def test_images_of_many_sizes_need_an_augment(store: Any) -> None:
    with pytest.raises(
        ArgumentError, match=r"have many sizes, from 41x.*resized_crop=224.*resize=256, center_crop=224"
    ):
        lds.Loader(store, 4)
    with pytest.raises(ArgumentError, match="have many sizes"):
        lds.Loader(store, 4, augment=lds.Augment(flip=0.5))
    with pytest.raises(ArgumentError, match="a crop of 64x64 does not fit"):
        lds.Loader(store, 4, augment=lds.Augment(center_crop=64))
    with pytest.raises(ArgumentError, match="a random crop of 64x64 does not fit"):
        lds.Loader(store, 4, augment=lds.Augment(random_crop=64))


def test_images_of_one_size_need_no_augment(tmp_path: Path) -> None:
    files = [encode(pixels(20, 30, seed=i)) for i in range(6)]
    store = lds.pack(files, tmp_path / "s.lds", codec="jpeg", progress=False)
    assert store.shape == (3, 20, 30)
    [(found,)] = list(lds.Loader(store, 6, dtype=torch.uint8))
    np.testing.assert_array_equal(found.numpy(), np.stack([shown(file).transpose(2, 0, 1) for file in files]))
    np.testing.assert_array_equal(np.asarray(store), found.numpy())


def test_gather_resizes_and_crops(store: Any, images: list[Any]) -> None:
    found = store.gather([3, 1, 3], resize=40, crop=32)
    options = {"resize": 40, "crop": "center", "out_height": 32, "out_width": 32}
    expected = [gathered_sample(images[i], i, 0, 0, options) for i in (3, 1, 3)]
    np.testing.assert_array_equal(found.numpy(), np.stack(expected))


# ---- order, ranks and resume are those of any store -----------------------------------------------------------------
def test_a_resumed_epoch_goes_on_exactly(store: Any) -> None:
    whole = epoch_of(loader(store, shuffle=True))
    first = loader(store, shuffle=True)
    iterator = iter(first)
    head = [next(iterator), next(iterator)]
    rest = loader(store, shuffle=True, threads=1, prefetch=0)
    rest.load_state_dict(first.state_dict())
    assert_same([*head, *rest], whole)


def test_ranks_share_the_samples(store: Any) -> None:
    single = {
        int(label): image
        for images, labels in loader(store, shuffle=True)
        for image, label in zip(images, labels, strict=True)
    }
    for rank in range(2):
        for images, labels in loader(store, shuffle=True, rank=rank, world_size=2):
            for image, label in zip(images, labels, strict=True):
                assert torch.equal(image, single[int(label)])


def test_a_forked_child_loads_the_same(store: Any) -> None:
    batches = loader(store)
    expected = torch.stack([images.sum() for images, _ in batches])  # maps the files, and starts the threads
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        batches.set_epoch(0)
        found = torch.stack([images.sum() for images, _ in batches])
        os.write(write, b"1" if torch.equal(found, expected) else b"0")
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        assert answer.read() == b"1"
    os.waitpid(child, 0)


# ---- decode="scaled" ----------------------------------------------------------------------------------------------
def psnr(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(10 * torch.log10(255**2 / (one.float() - other.float()).square().mean()))


def test_scaled_comes_close_to_exact(tmp_path: Path) -> None:
    skimage = pytest.importorskip("skimage")
    photo = Image.open(Path(skimage.__file__).parent / "data" / "retina.jpg").convert("RGB").resize((900, 700))
    buffers = [io.BytesIO() for _ in range(8)]
    for turn, buffer in enumerate(buffers, start=1):
        photo.save(buffer, "JPEG", quality=92, exif=b"Exif\0\0" + exif_block(turn))
    store = lds.pack([buffer.getvalue() for buffer in buffers], tmp_path / "s.lds", codec="jpeg", progress=False)
    for augment in (lds.Augment(resize=64, center_crop=56), lds.Augment(resized_crop=100, scale=(0.5, 1.0), flip=0.5)):
        exact, scaled = (
            next(iter(lds.Loader(store, 8, augment=augment, dtype=torch.uint8, decode=decode)))[0]
            for decode in ("exact", "scaled")
        )
        assert not torch.equal(exact, scaled)
        assert psnr(exact, scaled) > 35
    small = lds.Augment(resized_crop=100, scale=(0.01, 0.05))  # no crop is twice as large as the sample
    exact, scaled = (
        next(iter(lds.Loader(store, 8, augment=small, dtype=torch.uint8, decode=decode)))[0]
        for decode in ("exact", "scaled")
    )
    assert torch.equal(exact, scaled)


def test_scaled_images_are_not_shifted_by_their_orientation(tmp_path: Path) -> None:
    """The last column and row of a smaller image stand for one pixel; in a turned image, they come first."""
    image = np.kron(pixels(13, 13, seed=1)[..., :3], np.ones((16, 16, 1), np.uint8))[:201, :193]
    files = [encode(image, quality=95, exif=b"Exif\0\0" + exif_block(turn)) for turn in range(1, 9)]
    store = lds.pack(files, tmp_path / "s.lds", codec="jpeg", progress=False)
    for side in (96, 48, 24):  # at scales of 2, 4 and 8
        exact, scaled = (
            next(
                iter(lds.Loader(store, 8, augment=lds.Augment(resize=(side, side)), dtype=torch.uint8, decode=decode))
            )[0]
            for decode in ("exact", "scaled")
        )
        found = [psnr(a, b) for a, b in zip(exact, scaled, strict=True)]
        assert min(found) > found[0] - 1.5, (side, found)


def test_decode_is_checked(store: Any, tmp_path: Path) -> None:
    raw = make_labelled_store(tmp_path, 4)
    with pytest.raises(ArgumentError, match=r"decode='scaled': .* has raw rows, which are not decoded"):
        lds.Loader(raw, 2, decode="scaled")
    both = lds.Loader(
        lds.concat([raw, lds.pack(raw, tmp_path / "j", codec="jpeg", progress=False)]), 8, decode="scaled"
    )
    assert len(next(iter(both))[0]) == 8
    with pytest.raises(ArgumentError, match="decode: expected 'exact' or 'scaled', found 'fast'"):
        loader(store, decode="fast")
    with pytest.raises(ArgumentError, match="on_damage: expected one of raise, skip, found 'ignore'"):
        loader(store, on_damage="ignore")


# ---- damaged rows -------------------------------------------------------------------------------------------------
def overwrite(store: Any, row: int, change: Any) -> Any:
    """The store opened again, after `change` of the bytes of a row."""
    shard = next(s for s in reversed(store.shards) if s.start <= row)
    offsets = np.load(shard.path / "images.offsets.npy")
    low, high = (int(x) for x in offsets[row - shard.start : row - shard.start + 2])
    data = bytearray((shard.path / "images.bin").read_bytes())
    data[low:high] = change(bytes(data[low:high]))
    (shard.path / "images.bin").write_bytes(data)
    return lds.open(store.path)


def change_array(store: Any, row: int, name: str, change: Any) -> Any:
    """The store opened again, after change(array, row in the shard) of an array beside the images."""
    shard = next(s for s in reversed(store.shards) if s.start <= row)
    path = shard.path / f"images.{name}.npy"
    array = np.load(path)
    change(array, row - shard.start)
    path.write_bytes(path.read_bytes()[:4096] + array.tobytes())
    return lds.open(store.path)


def cut(file: bytes) -> bytes:
    return file[: len(file) // 2] + bytes(len(file) - len(file) // 2)


def huge(file: bytes) -> bytes:
    """Of 65,500 x 65,500 pixels, libjpeg's largest, by its header."""
    at = file.index(b"\xff\xc0") + 5
    return file[:at] + struct.pack(">HH", 65500, 65500) + file[at + 4 :]


DAMAGES = {
    "no JPEG": (lambda file: b"no JPEG file".ljust(len(file)), "the row is no JPEG file"),
    "cut": (cut, "ends early|corrupt|premature|marker"),
    "huge": (huge, "more than max_pixels"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_row_is_named(copied: Any, kind: str) -> None:
    change, message = DAMAGES[kind]
    damaged = overwrite(copied, 15, change)
    shard = next(s for s in reversed(damaged.shards) if s.start <= 15)
    expected = rf"{shard.path.name}/images.bin, row {15 - shard.start} \(row 15 of the store\): .*({message})"
    for augment in (TRAIN, VALIDATE):
        with pytest.raises(DecodeError, match=expected):
            epoch_of(loader(damaged, augment=augment))
    with pytest.raises(DecodeError, match=expected):
        damaged[15]
    assert damaged.verify().damaged == (15,)
    assert damaged[14][0].shape[0] == 3


def set_first(value: int) -> Any:
    def change(array: Any, row: int) -> None:
        array[row] = value

    return change


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("offsets", set_first(1 << 60), "row .* is at bytes .* the offsets are damaged"),
        ("offsets", set_first((1 << 64) - 1), "the offsets are damaged"),
        ("size", set_first(17), "the image is .*, and the store's list of sizes says 17x17"),
        ("orientation", set_first(9), "an orientation is 1 to 8, found 9"),
        ("orientation", set_first(0), "an orientation is 1 to 8, found 0"),
    ],
)
def test_damaged_arrays_beside_the_images(copied: Any, name: str, change: Any, message: str) -> None:
    damaged = change_array(copied, 2, name, change)
    with pytest.raises(LargedsError, match=message):
        epoch_of(loader(damaged))
    with pytest.raises(LargedsError, match=message):
        damaged[2]
    assert not damaged.verify().ok
    with pytest.warns(RuntimeWarning, match="a row is replaced"):
        assert len(epoch_of(loader(damaged, on_damage="skip"))) == 5


def test_skip_takes_the_next_good_row_with_its_fields(copied: Any) -> None:
    whole = {
        int(label): image for images, labels in loader(copied) for image, label in zip(images, labels, strict=True)
    }
    damaged = overwrite(overwrite(copied, 7, cut), 8, lambda file: bytes(len(file)))
    for threads in (1, 3):
        batches = loader(damaged, on_damage="skip", threads=threads)
        with pytest.warns(RuntimeWarning, match=r"a row is replaced .*\(row [78] of the store\): ") as warned:
            found = list(batches)
        assert len(warned) == 1
        labels = torch.cat([labels for _, labels in found]).tolist()
        assert labels == [*range(7), 9, 9, *range(9, ROWS)]
        assert batches.stats()["replaced"] == 2
        images = torch.cat([images for images, _ in found])
        for row, label in enumerate(labels):
            if row == label:
                assert torch.equal(images[row], whole[label])
    order = list(reversed(range(ROWS)))
    labels = labels_with_skip(damaged, order=order)
    assert labels == [9 if row in (7, 8) else row for row in order]


def labels_with_skip(store: Any, **options: Any) -> list[int]:
    with pytest.warns(RuntimeWarning, match="a row is replaced"):
        return [int(x) for _, labels in loader(store, on_damage="skip", **options) for x in labels]


def test_skip_stays_among_the_samples_of_the_loader(copied: Any) -> None:
    damaged = overwrite(overwrite(copied, 7, cut), 20, cut)
    chosen = [20, 3, 7, 12]
    assert labels_with_skip(damaged, indices=chosen) == [3, 3, 12, 12]  # after 20, the first again
    assert labels_with_skip(damaged, order=chosen) == [3, 3, 12, 12]
    weights = np.zeros(ROWS)
    weights[[7, 15]] = 1
    assert set(labels_with_skip(damaged, weights=weights)) == {15}
    both = labels_with_skip(damaged, weights=[1.0, 0.0, 1.0], indices=[7, 8, 2])
    assert set(both) == {2}
    sampler = torch.utils.data.SubsetRandomSampler(chosen)
    with pytest.raises(ArgumentError, match="which samples SubsetRandomSampler leaves out is not known"):
        loader(damaged, on_damage="skip", order=sampler)
    with pytest.raises(DecodeError, match="row 7 of the store"):
        epoch_of(loader(damaged, on_damage="skip", indices=[7]))


def test_a_file_that_is_cut_off_is_refused(copied: Any) -> None:
    path = copied.shards[0].path / "images.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StoreError, match=r"images\.bin is short: expected"):
        lds.open(copied.path)
    with pytest.raises(StoreError, match=r"images\.bin is short: expected"):
        epoch_of(loader(copied))


@pytest.mark.parametrize("seed", range(40))
def test_random_damage_is_an_error_or_a_picture(copied: Any, seed: int) -> None:
    random = np.random.default_rng(seed)
    names = ["images.bin", "images.offsets.npy", "images.size.npy", "images.orientation.npy"]
    for _ in range(int(random.integers(1, 4))):
        shard = copied.shards[int(random.integers(len(copied.shards)))]
        path = shard.path / names[int(random.integers(len(names)))]
        if not path.exists():
            continue
        data = bytearray(path.read_bytes())
        at = int(random.integers(4096 if path.suffix == ".npy" else 0, len(data)))
        data[at] ^= 1 << int(random.integers(8))
        path.write_bytes(data)
    store = lds.open(copied.path)
    for row in range(len(store)):
        with contextlib.suppress(LargedsError):
            store[row]
    batches = loader(store, on_damage="skip")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        assert sum(len(images) for images, _ in batches) == ROWS


@pytest.mark.parametrize(("low", "high"), [((90, 90), (90, 90)), ((900, 900), (900, 900)), ((60, 60), (90, 90))])
@pytest.mark.parametrize("augment", [None, lds.Augment(center_crop=50), lds.Augment(random_crop=50)])
def test_sizes_that_the_manifest_invents(copied: Any, low: Any, high: Any, augment: Any) -> None:
    manifest = json.loads((copied.path / "manifest.json").read_text())
    manifest["image"] |= {"min_size": low, "max_size": high}
    (copied.path / "manifest.json").write_text(json.dumps(manifest))
    store = lds.open(copied.path)
    assert store.verify().damaged_shards == ("manifest.json",)
    if augment is None and low != high:
        return
    with pytest.raises(StoreError, match=r"row \d+.*: the image has .* pixels, and the manifest says"):
        epoch_of(loader(store, augment=augment))


def test_a_lost_list_of_orientations_is_missed(copied: Any) -> None:
    path = next(shard.path for shard in copied.shards if (shard.path / "images.orientation.npy").exists())
    (path / "images.orientation.npy").unlink()
    with pytest.raises(StoreError, match=r"images\.orientation\.npy is missing"):
        lds.open(copied.path)
