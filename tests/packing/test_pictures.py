"""Pictures beside the images that are no masks: packed from every kind of source, with the geometry of their images."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import largeds_native as lds
from largeds_native import sources
from largeds_native.errors import ArgumentError, PackError
from largeds_native.packing import verify_sources
from largeds_native.store import JpegStore
from tests import reference
from tests.builders.images import pixels
from tests.packing.test_values import expected_row

KEEP: dict[str, Any] = {"resize": None, "crop": None, "progress": False}
HEIGHT, WIDTH = 20, 24
IMAGES = np.stack([pixels(HEIGHT, WIDTH, seed=i) for i in range(6)])


def depths(dtype: str, channels: int = 1) -> np.ndarray[Any, Any]:
    """(N, C, H, W)"""
    return reference.random_images((len(IMAGES), channels, HEIGHT, WIDTH), dtype, 5)


def rows_of(values: Any, resize: Any, crop: Any) -> np.ndarray[Any, Any]:
    rows = [expected_row(one.transpose(1, 2, 0), resize, crop, "bilinear") for one in values]
    return np.stack(rows).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("channels", [1, 3, 7])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float16", "float32"])
def test_arrays_of_every_dtype(tmp_path: Path, dtype: str, channels: int) -> None:
    values = depths(dtype, channels)
    source = sources.arrays(IMAGES, np.arange(6), pictures={"depth": values})
    store = lds.pack(source, tmp_path / "s.lds", shard_bytes=4000, **KEEP)
    assert store.fields == ("label", "depth")
    assert store["depth"].dtype == np.dtype(dtype)
    np.testing.assert_array_equal(np.asarray(store["depth"]), values)
    assert store.verify().ok
    assert verify_sources(store, source).ok
    small = lds.pack(source, tmp_path / "small.lds", resize=12, crop=8, progress=False)
    expected = rows_of(values, 12, 8)
    difference = np.abs(np.asarray(small["depth"], np.float64) - expected)
    tolerance = {"f": 2e-3 if dtype == "float16" else 1e-5, "i": 1, "u": 1}[np.dtype(dtype).kind]
    assert difference.max() <= tolerance * max(1.0, 1.0 if dtype[0] != "f" else float(np.abs(expected).max()))
    batch = next(iter(lds.Loader(store, 6, fields=("depth", "label"))))
    assert batch[1].shape == (6, channels, HEIGHT, WIDTH)
    np.testing.assert_array_equal(batch[1].numpy(), values)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_geometry_is_that_of_the_image(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """A picture with the pixels of its image stays equal to it, in several views, by whatever is drawn."""
    codec = data.draw(st.sampled_from(["raw", "jpeg"]))
    grey = codec == "jpeg"
    images = IMAGES[..., :1] if grey else IMAGES
    source = sources.arrays(images, pictures={"other": images})
    options = {**KEEP, "mode": "L" if grey else "RGB"}
    if codec == "jpeg":
        options = {"codec": "jpeg", "mode": "L", "quality": 100, "progress": False}
    store = lds.pack(source, tmp_path_factory.mktemp("s") / "s", **options)
    view = st.sampled_from(
        [
            lds.Augment(random_crop=14, padding=3, flip=0.5),
            lds.Augment(resized_crop=11, flip=0.5),
            lds.Augment(center_crop=(9, 13)),
            lds.Augment(resize=15, center_crop=12, flip=0.5),
        ]
    )
    views = data.draw(st.lists(view, min_size=1, max_size=3))
    loader = lds.Loader(store, 4, augment=views, shuffle=True, seed=3, dtype=torch.uint8, fields=("other",))
    for seen, others in loader:
        for image, other in zip(seen, others, strict=True):
            tolerance = 12 if codec == "jpeg" else 0  # the image was encoded
            assert (image.int() - other.int()).abs().max() <= tolerance


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("resize", [None, 12])
def test_png_rows_beside_jpeg_rows(tmp_path: Path, dtype: str, resize: int | None) -> None:
    values = depths(dtype)
    source = sources.arrays(IMAGES, pictures={"depth": values})
    store = lds.pack(source, tmp_path / "s.lds", codec="jpeg", resize=resize, progress=False)
    assert isinstance(store, JpegStore)
    assert store.encoded(0, "depth").startswith(b"\x89PNG")
    found = np.stack([store["depth"][i] for i in range(6)])
    expected = values if resize is None else rows_of(values, resize, None)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= (0 if resize is None else 1)
    assert store.verify().ok
    assert verify_sources(store, source).ok
    raw = lds.pack(store, tmp_path / "raw.lds", resize=8, crop=None, progress=False)
    assert raw["depth"].shape[1:] == (1, *raw.image_size)
    images, gathered = store.gather([3, 1], resize=8, crop=8, fields=("depth",))
    assert (images.shape[2:], gathered.shape) == ((8, 8), (2, 1, 8, 8))


def save(values: np.ndarray[Any, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def test_folders(tmp_path: Path) -> None:
    metres, colours = depths("float32")[:, 0], depths("uint8", 3).transpose(0, 2, 3, 1)
    near, far = depths("uint16")[:, 0], depths("uint8")[:, 0]
    for i, image in enumerate(IMAGES):
        save(image, tmp_path / f"images/a/{i}.png")
        save(metres[i], tmp_path / f"metres/a/{i}.tif")
        save(colours[i], tmp_path / f"colours/a/{i}.png")
        save(near[i], tmp_path / f"near/a/{i}.png")
        save(far[i], tmp_path / f"far/a/{i}.png")
    where = {name: tmp_path / name for name in ("metres", "colours", "near", "far")}
    store = lds.pack(tmp_path / "images", tmp_path / "s.lds", pictures=where, masks=tmp_path / "far", **KEEP)
    assert store.fields == ("label", "mask", "metres", "colours", "near", "far")
    np.testing.assert_array_equal(np.asarray(store["metres"])[:, 0], metres)
    np.testing.assert_array_equal(np.asarray(store["colours"]).transpose(0, 2, 3, 1), colours)
    np.testing.assert_array_equal(np.asarray(store["near"])[:, 0], near)
    np.testing.assert_array_equal(np.asarray(store["far"])[:, 0], far)
    np.testing.assert_array_equal(np.asarray(store["mask"]), far)
    (tmp_path / "near/a/2.png").unlink()
    save(far[3], tmp_path / "near/a/3.png")
    save(near[4][:-1], tmp_path / "near/a/4.png")
    again = lds.pack(
        tmp_path / "images", tmp_path / "t.lds", pictures={"near": tmp_path / "near"}, max_failures=3, **KEEP
    )
    assert again.report is not None
    found = {failure.source: (failure.reason, failure.error) for failure in again.report.failures}
    assert found["a/2.png"] == (
        "missing",
        f"near: a/2.png: expected a picture a/2.png in {tmp_path / 'near'}, found none",
    )
    assert found["a/3.png"][0] == "sixteen_bit"
    assert found["a/4.png"][0] == "picture_size"


def test_tables_and_tar_files(tmp_path: Path) -> None:
    near = depths("uint16")[:, 0]
    cells = []
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for i, image in enumerate(IMAGES):
            row = {}
            for name, values in (("png", image), ("depth.png", near[i])):
                stream = io.BytesIO()
                Image.fromarray(values).save(stream, "PNG")
                row[name] = stream.getvalue()
                info = tarfile.TarInfo(f"{i}.{name}")
                info.size = len(row[name])
                archive.addfile(info, io.BytesIO(row[name]))
            cells.append(row)
    columns = {"image": [row["png"] for row in cells], "far": [row["depth.png"] for row in cells]}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    for number, source in enumerate(
        (
            sources.tar(tmp_path / "x.tar", pictures=("depth",)),
            sources.table(tmp_path / "x.parquet", pictures={"depth": "far"}),
        )
    ):
        store = lds.pack(source, tmp_path / f"s{number}", **KEEP)
        assert store.fields == ("depth",)
        np.testing.assert_array_equal(np.asarray(store["depth"])[:, 0], near)
        np.testing.assert_array_equal(np.asarray(store.images).transpose(0, 2, 3, 1), IMAGES)


class Rooms(torch.utils.data.Dataset[Any]):
    def __init__(self, depth: Any) -> None:
        self.depth = depth

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> Any:
        return {"image": IMAGES[index], "label": index, "depth": self.depth[index], "mask": IMAGES[index][..., 0]}


def test_datasets(tmp_path: Path) -> None:
    metres = torch.rand(6, 1, HEIGHT, WIDTH)
    store = lds.pack(Rooms(metres), tmp_path / "s", pictures="depth", **KEEP)
    assert store.fields == ("label", "depth", "mask")
    np.testing.assert_array_equal(np.asarray(store["depth"]), metres)
    np.testing.assert_array_equal(np.asarray(store["mask"]), IMAGES[..., 0])
    bad = [*metres[:4], None, metres[5].double().numpy() > 0.5]
    again = lds.pack(Rooms(bad), tmp_path / "t", pictures=["depth"], max_failures=2, **KEEP)
    assert again.report is not None
    assert [failure.reason for failure in again.report.failures] == ["missing", "unsupported"]


def test_batches_samples_and_stores(tmp_path: Path) -> None:
    """The Loader, StoreDataset, HDF5 and joined stores know them."""
    metres = depths("float32")
    parts = [
        lds.pack(sources.arrays(IMAGES, np.arange(6), pictures={"depth": metres}), tmp_path / f"{i}.lds", **KEEP)
        for i in range(2)
    ]
    for dataset, shape in ((lds.StoreDataset(parts[0], fields=("depth",)), (1, HEIGHT, WIDTH)),):
        image, depth = dataset[2]
        assert (image.shape, depth.shape, depth.dtype) == ((3, HEIGHT, WIDTH), shape, torch.float32)
        np.testing.assert_array_equal(depth, metres[2])
    view = lds.Augment(resized_crop=8)
    views = lds.StoreDataset(parts[0], fields=("depth",), augment=[view, view])[1]
    assert [one.shape for one in views[1]] == [(1, 8, 8)] * 2
    picture = lds.StoreDataset(parts[0], fields=("depth",), image="pil")[1][1]
    assert (picture.mode, picture.size) == ("F", (WIDTH, HEIGHT))
    joined = lds.concat(parts)
    np.testing.assert_array_equal(joined.gather([7, 2], fields=("depth",))[1], metres[[1, 2]])
    path = parts[0].to_hdf5(tmp_path / "x.h5", progress=False)
    for back in (lds.open(path), lds.from_hdf5(path, tmp_path / "back.lds", progress=False)):
        assert back.metadata.pictures == parts[0].metadata.pictures
        np.testing.assert_array_equal(np.asarray(back["depth"]), metres)
        batch = next(iter(lds.Loader(back, 3, augment=view, fields=("depth",))))
        assert batch[1].shape == (3, 1, 8, 8)


def test_flipped_bytes_are_found(tmp_path: Path) -> None:
    store = lds.pack(sources.arrays(IMAGES, pictures={"depth": depths("float32")}), tmp_path / "s", **KEEP)
    file = store.path / "shard-00000" / "depth.npy"
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    assert lds.open(store.path).verify().damaged == (5,)


def test_bad_pictures(tmp_path: Path) -> None:
    metres = depths("float32")
    for options, words in (
        ({"pictures": "depth"}, "pictures: expected a mapping"),
        ({"pictures": {"depth": metres[:5]}}, r"expected 6 pictures of \(20, 24\), found 5 of \(20, 24\)"),
        ({"pictures": {"depth": metres[..., :9]}}, "found 6 of"),
        ({"pictures": {"depth": metres.astype(np.float64)}}, "expected uint8, uint16, int16, float16, float32, found"),
        ({"pictures": {"label": metres}}, "'label' is a field already"),
        ({"pictures": {"a/b": metres}}, "pictures: expected a field's name"),
        ({"pictures": {"mask": metres}, "masks": np.zeros((6, 20, 24), int)}, "'mask' is a mask already"),
    ):
        with pytest.raises(ArgumentError, match=words):
            sources.arrays(IMAGES, np.arange(6), **options)  # type: ignore[arg-type]
    for options, words in (
        ({"codec": "jpeg"}, "'depth' has values of float32 with 1 channel, and the PNG rows beside JPEG rows"),
        ({"augment": lds.Augment(flip=0.5), **KEEP}, "the pictures 'depth' are not augmented ahead"),
    ):
        with pytest.raises(ArgumentError, match=words):
            lds.pack(sources.arrays(IMAGES, pictures={"depth": metres}), tmp_path / "s", **options)  # type: ignore[arg-type]
    with pytest.raises(PackError, match="depth"):
        lds.pack(Rooms([metres[i, :, i:] for i in range(6)]), tmp_path / "t", pictures="depth", **KEEP)


def test_the_first_picture_that_is_there_tells_the_dtype(tmp_path: Path) -> None:
    metres = depths("float32")
    store = lds.pack(Rooms([None, *metres[1:]]), tmp_path / "s", pictures="depth", max_failures=1, **KEEP)
    np.testing.assert_array_equal(np.asarray(store["depth"]), metres[1:])
    with pytest.raises(PackError, match="none of its first samples has a 'depth'"):
        lds.pack(Rooms([None] * 6), tmp_path / "t", pictures="depth", max_failures=6, **KEEP)
    for i, image in enumerate(IMAGES):
        save(image, tmp_path / f"images/{i}.png")
    (tmp_path / "depth").mkdir()
    (tmp_path / "depth/other.png").write_bytes(b"")
    with pytest.raises(PackError, match="pictures: none of the 6 that were looked at can be had"):
        lds.pack(tmp_path / "images", tmp_path / "u", pictures={"depth": tmp_path / "depth"}, **KEEP)


def test_pictures_that_samples_can_not_have(tmp_path: Path) -> None:
    pairs = [(image, 0) for image in IMAGES]
    with pytest.raises(ArgumentError, match="expected samples that are dicts with the key 'depth', found a tuple of 2"):
        sources.dataset(pairs, pictures="depth")
    with pytest.raises(ArgumentError, match="'label' is the sample's own"):
        sources.dataset(Rooms(depths("float32")), pictures="label")
    source = sources.arrays(IMAGES, pictures={"depth": depths("float32")})
    with pytest.raises(ArgumentError, match="antialias=False: 'depth' has values of float32"):
        lds.pack(source, tmp_path / "s", antialias=False, resize=8, crop=8, progress=False)


def test_changed_files_of_hugging_face_columns_are_noticed(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    for i, image in enumerate(IMAGES):
        save(image, tmp_path / f"{i}.png")
        save(image[..., 0], tmp_path / f"depth{i}.png")
    columns = {
        "image": [{"path": None, "bytes": (tmp_path / f"{i}.png").read_bytes()} for i in range(6)],
        "far": [{"path": str(tmp_path / f"depth{i}.png"), "bytes": None} for i in range(6)],
    }
    image = datasets.Image()
    data = datasets.Dataset.from_dict(columns, datasets.Features({"image": image, "far": image}))
    options = {"pictures": {"depth": "far"}, **KEEP}
    store = lds.pack(data, tmp_path / "s", **options)
    np.testing.assert_array_equal(np.asarray(store["depth"])[:, 0], IMAGES[..., 0])
    assert lds.pack(data, tmp_path / "s", **options).identity == store.identity
    save(IMAGES[1][..., 0], tmp_path / "depth0.png")
    with pytest.raises(PackError, match="1 of its images changed"):
        lds.pack(data, tmp_path / "s", **options)
