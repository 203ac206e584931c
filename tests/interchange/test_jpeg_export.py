"""A JPEG store as an HDF5 file: decoded, or the JPEG files themselves."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

import largeds_native as lds
from largeds_native.store import JpegStore
from tests.builders.images import encode, exif_block, pixels
from tests.builders.stores import assert_equal_stores, make_jpeg_store

STORAGE: list[dict[str, Any]] = [{}, {"layout": "chunked", "chunk_images": 3, "compression": "gzip"}]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> JpegStore:
    return make_jpeg_store(tmp_path_factory.mktemp("jpeg"))


@pytest.mark.parametrize("storage", STORAGE)
@pytest.mark.parametrize("layout", ["CHW", "HWC"])
def test_images_of_one_size_are_decoded(tmp_path: Path, layout: str, storage: dict[str, Any]) -> None:
    store = make_jpeg_store(tmp_path, sizes=((60, 80),), layout=layout)
    path = store.to_hdf5(tmp_path / "a.h5", **storage)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["data"][()], np.asarray(store))
        np.testing.assert_array_equal(file["labels"][()], store["label"])
        assert file["data"].attrs["layout"] == layout
    again = lds.from_hdf5(path, tmp_path / "raw.lds", progress=False)
    assert_equal_stores(again, store)
    if not storage:
        np.testing.assert_array_equal(np.asarray(lds.open(path)), np.asarray(store))


@pytest.mark.parametrize("storage", STORAGE)
def test_images_of_many_sizes_are_resized_and_cropped(many: JpegStore, tmp_path: Path, storage: dict[str, Any]) -> None:
    """As `pack` resizes them."""
    files = [(many.encoded(row), int(many["label"][row])) for row in range(12)]
    for number, sizes in enumerate(({"resize": 40, "crop": 32}, {"resize": 40}, {"crop": 28}, {"resize": (30, 44)})):
        packed = lds.pack(files, tmp_path / f"{number}.lds", key="files", progress=False, **sizes)
        path = many.to_hdf5(tmp_path / f"{number}.h5", progress=False, **sizes, **storage)
        with h5py.File(path) as file:
            np.testing.assert_array_equal(file["data"][()], np.asarray(packed), err_msg=str(sizes))


def test_chosen_rows_and_normalised(many: JpegStore, tmp_path: Path) -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    path = many.to_hdf5(tmp_path / "a.h5", indices=[7, 0, 7], normalize=(mean, std), resize=40, crop=32)
    expected = many.gather([7, 0, 7], resize=40, crop=32, mean=mean, std=std)
    with h5py.File(path) as file:
        np.testing.assert_allclose(file["data"][()], expected.numpy(), atol=1e-6)
        assert file["labels"][()].tolist() == [1, 0, 1]


def test_raw_stores_are_resized_too(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 20, 24), np.uint8)
    store = lds.pack((images, np.arange(3)), tmp_path / "s.lds", resize=None, crop=None, progress=False)
    with h5py.File(store.to_hdf5(tmp_path / "a.h5", resize=16, crop=12)) as file:
        np.testing.assert_array_equal(file["data"][()], store.gather(range(3), resize=16, crop=12).numpy())


def test_the_files_themselves(many: JpegStore, tmp_path: Path) -> None:
    path = many.to_hdf5(tmp_path / "files.h5", encoded=True, indices=[5, 0, 11])
    with h5py.File(path) as file:
        assert h5py.check_vlen_dtype(file["data"].dtype) == np.uint8
        assert [row.tobytes() for row in file["data"]] == [many.encoded(row) for row in (5, 0, 11)]
        assert file["data"].attrs["encoding"] == "jpeg"
        assert file["labels"][()].tolist() == [1, 0, 1]
        assert "orientation" not in file
        image = Image.open(io.BytesIO(file["data"][0].tobytes()))
        np.testing.assert_array_equal(np.asarray(image).transpose(2, 0, 1), many[5][0])


def test_large_files_and_orientations(tmp_path: Path) -> None:
    large = encode(pixels(500, 900), quality=98)
    turned = encode(Image.fromarray(pixels(30, 40)), exif=b"Exif\0\0" + exif_block(6), quality=90)
    store = lds.pack([(large, 0), (turned, 1)], tmp_path / "s.lds", codec="jpeg", resize=None, key="k", progress=False)
    with h5py.File(store.to_hdf5(tmp_path / "a.h5", encoded=True)) as file:
        assert [row.tobytes() for row in file["data"]] == [store.encoded(0), store.encoded(1)]
        assert file["orientation"][()].tolist() == np.asarray(store.orientations[:]).tolist() == [1, 6]


def test_what_does_not_fit_is_refused(many: JpegStore, tmp_path: Path) -> None:
    raw = lds.pack(
        lds.sources.arrays(np.zeros((3, 3, 8, 8), np.uint8)), tmp_path / "r.lds", resize=None, crop=None, progress=False
    )
    augment = lds.Augment(random_crop=4)
    kwargs: dict[str, Any] = {"resize": None, "crop": None, "progress": False, "variants": 2, "augment": augment}
    variants = lds.pack(lds.sources.arrays(np.zeros((3, 3, 8, 8), np.uint8)), tmp_path / "v.lds", **kwargs)
    for store, options, expected in (
        (many, {}, r"many sizes \(JPEG 48x48 to 90x80 .*pass resize=256, crop=224, or encoded=True"),
        (many, {"resize": 20, "crop": 30}, "does not fit"),
        (many, {"encoded": True, "resize": 20}, "encoded: expected no option of decoded images"),
        (many, {"encoded": True, "compression": "gzip"}, "encoded: expected no option of decoded images"),
        (raw, {"encoded": True}, "pixels, not JPEG files"),
        (lds.concat([many, many]), {"encoded": True}, "export each alone"),
        (variants, {"resize": 8}, "2 variants"),
    ):
        with pytest.raises(lds.ArgumentError, match=expected):
            store.to_hdf5(tmp_path / "x.h5", **options)
    assert not list(tmp_path.glob("*x.h5*"))


def test_a_damaged_row_leaves_no_file(tmp_path: Path) -> None:
    store = make_jpeg_store(tmp_path)
    path, offset, size = store.file_range(4)
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(b"\0" * size)
    with pytest.raises(lds.LargedsError, match=r"shard-00000.*row 4|row 4.*shard-00000"):
        store.to_hdf5(tmp_path / "x.h5", resize=32, crop=24)
    assert not list(tmp_path.glob("*x.h5*"))


def test_reading_the_files_says_what_to_do(many: JpegStore, tmp_path: Path) -> None:
    path = many.to_hdf5(tmp_path / "files.h5", encoded=True)
    for read in (
        lambda: lds.open(path),
        lambda: lds.HDF5Dataset(path),
        lambda: lds.from_hdf5(path, tmp_path / "x.lds", progress=False),
        lambda: lds.join_hdf5([path, path], tmp_path / "joined.h5"),
    ):
        with pytest.raises(lds.ArgumentError, match=r"holds JPEG files.*lds\.decode_batch"):
            read()
    assert not (tmp_path / "x.lds").exists()
    with h5py.File(path) as file:
        batch = lds.decode_batch([file["data"][0].tobytes()], resize=32, crop=24)
    np.testing.assert_array_equal(batch.numpy()[0], many.gather([0], resize=32, crop=24)[0].numpy())
