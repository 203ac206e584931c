"""HDF5Dataset gives the store's values from any storage, alone and in workers made by fork and spawn."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import largeds_native as lds
from largeds_native.errors import RowIndexError, StoreError
from tests.builders.stores import make_random_store, write_hdf5

STORAGE: list[dict[str, Any]] = [
    {},
    {"layout": "chunked"},
    {"layout": "chunked", "chunk_images": 3},
    {"layout": "chunked", "chunk_images": 3, "compression": "gzip"},
    {"layout": "chunked", "chunk_images": 2, "compression": "lzf"},
]


@pytest.mark.parametrize("storage", STORAGE)
@pytest.mark.parametrize("layout", ["CHW", "HWC"])
def test_batches_in_any_order(tmp_path: Path, storage: dict[str, Any], layout: str) -> None:
    store = make_random_store(
        tmp_path / "a.lds", n=11, shape=(3, 4, 5) if layout == "CHW" else (4, 5, 3), layout=layout
    )
    dataset = lds.HDF5Dataset(store.to_hdf5(tmp_path / "a.h5", **storage))
    expected = np.asarray(store.images) if layout == "CHW" else np.moveaxis(np.asarray(store.images), -1, 1)
    wanted = [7, 0, 10, 3, 3, -1, 8, 1]
    items = dataset.__getitems__(wanted)
    np.testing.assert_array_equal(torch.stack([image for image, _ in items]).numpy(), expected[wanted])
    assert [label for _, label in items] == np.asarray(store["label"])[wanted].tolist()
    assert torch.equal(dataset[4][0], torch.from_numpy(expected[4].copy()))
    assert len(dataset) == 11


@pytest.mark.parametrize(("context", "workers"), [("fork", 2), ("spawn", 1)])  # each spawned one imports torch anew
def test_workers(tmp_path: Path, context: str, workers: int) -> None:
    store = make_random_store(tmp_path / "a.lds", n=20)
    dataset = lds.HDF5Dataset(store.to_hdf5(tmp_path / "a.h5", layout="chunked"))
    assert dataset[0][0].shape == (3, 4, 5)  # opened in the parent before the workers are made
    batches = list(DataLoader(dataset, 6, num_workers=workers, multiprocessing_context=context))
    np.testing.assert_array_equal(torch.cat([images for images, _ in batches]).numpy(), np.asarray(store.images))
    np.testing.assert_array_equal(torch.cat([labels for _, labels in batches]).numpy(), np.asarray(store["label"]))


def test_files_of_others(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((9, 6, 5))
    grey = lds.HDF5Dataset(write_hdf5(tmp_path / "grey.h5", images, chunks=(2, 3, 5), shuffle=True, compression="gzip"))
    torch.testing.assert_close(torch.stack(grey.__getitems__([8, 2, 5])), torch.tensor(images[[8, 2, 5], None]))
    big_endian = lds.HDF5Dataset(write_hdf5(tmp_path / "be.h5", images.astype(">f4")))
    torch.testing.assert_close(big_endian[3], torch.tensor(images[3, None], dtype=torch.float32))
    with h5py.File(tmp_path / "holes.h5", "w") as file:  # chunks that were never written are zeros
        file.create_dataset("x", (5, 3, 2, 2), "u1", chunks=(1, 3, 2, 2))[2] = 7
    holes = lds.HDF5Dataset(tmp_path / "holes.h5", images="x")
    assert [int(image.max()) for image in holes.__getitems__(range(5))] == [0, 0, 7, 0, 0]


def test_transform_and_bad_index(tmp_path: Path) -> None:
    store = make_random_store(tmp_path / "a.lds")
    dataset = lds.HDF5Dataset(store.to_hdf5(tmp_path / "a.h5"), transform=lambda image: image.float() / 255)
    assert dataset[1][0].dtype == torch.float32
    with pytest.raises(RowIndexError, match="row 7 is outside of the 7 rows"):
        dataset[7]


# ---- memory that is used again -------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["CHW", "HWC"])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("transform", [None, torch.clone])
def test_batches_are_safe_to_keep(tmp_path: Path, layout: str, workers: int, transform: Any) -> None:
    shape = (3, 4, 5) if layout == "CHW" else (4, 5, 3)
    store = make_random_store(tmp_path / "a.lds", n=90, shape=shape, layout=layout, shard_rows=90)
    dataset = lds.HDF5Dataset(store.to_hdf5(tmp_path / "a.h5", layout="chunked"), transform=transform)
    loader = DataLoader(dataset, 4, num_workers=workers, persistent_workers=workers > 0)
    expected = list(DataLoader(lds.StoreDataset(store), 4))
    for _ in range(2):
        kept = list(loader)
        for (images, labels), (wanted, classes) in zip(kept, expected, strict=True):
            assert type(images) is torch.Tensor
            assert torch.equal(images, wanted)
            assert torch.equal(labels, classes)


class Counting(lds.HDF5Dataset):
    """Says in the label how many slots its worker has made."""

    def __getitems__(self, indices: Any) -> list[Any]:
        samples = super().__getitems__(indices)
        assert self._reader is not None
        made = len(self._reader._memory._shared._slots)
        return [type(sample)((sample[0], made), sample.batch, sample.index_in_batch) for sample in samples]


def test_a_worker_reuses_its_slots(tmp_path: Path) -> None:
    store = make_random_store(tmp_path / "a.lds", n=100, shard_rows=100)
    loader = DataLoader(Counting(store.to_hdf5(tmp_path / "a.h5")), 4, num_workers=1)
    assert max(int(made.max()) for _, made in loader) <= 5  # of 25 batches


def test_many_neighbours_at_once(tmp_path: Path) -> None:
    n = 2500  # more than one preadv takes
    store = make_random_store(tmp_path / "a.lds", n=n, shape=(1, 2, 3), shard_rows=n)
    for name, storage in (("a", {}), ("b", {"layout": "chunked", "chunk_images": 7})):
        dataset = lds.HDF5Dataset(store.to_hdf5(tmp_path / f"{name}.h5", **storage))  # type: ignore[arg-type]
        wanted = np.r_[np.random.default_rng(0).permutation(n), 5, 5, n - 1]
        images = torch.stack([image for image, _ in dataset.__getitems__(wanted.tolist())])
        np.testing.assert_array_equal(images.numpy(), np.asarray(store.images)[wanted])
    assert dataset.__getitems__([]) == []


def test_variants_of_each_image(tmp_path: Path) -> None:
    store = make_random_store(tmp_path / "a.lds", shape=(4, 5, 3), layout="HWC", variants=2)
    image, _ = lds.HDF5Dataset(store.to_hdf5(tmp_path / "a.h5"))[3]
    np.testing.assert_array_equal(image.numpy(), np.moveaxis(np.asarray(store.images)[3], -1, 1))


def test_a_file_cut_while_it_is_read(tmp_path: Path) -> None:
    store = make_random_store(tmp_path / "a.lds", fields={"label": np.zeros(7, np.int64)})
    dataset = lds.HDF5Dataset(store.to_hdf5(tmp_path / "a.h5"))
    assert len(dataset.__getitems__(range(7))) == 7
    with h5py.File(tmp_path / "a.h5") as file:
        offset = file["data"].id.get_offset()
    with open(tmp_path / "a.h5", "r+b") as opened:
        opened.truncate(offset + 5 * 60 + 1)
    with pytest.raises(StoreError, match=r"can't be read: .* was truncated while it was read"):
        dataset.__getitems__(range(7))


def test_text_labels_in_a_dataloader(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["data"] = np.zeros((4, 5, 5, 3), np.uint8)
        file["labels"] = ["cat", "dog", "cat", "owl"]
    [(images, labels)] = DataLoader(lds.HDF5Dataset(tmp_path / "x.h5"), 4)
    assert images.shape == (4, 3, 5, 5)
    assert list(labels) == ["cat", "dog", "cat", "owl"]
    with pytest.raises(TypeError, match="integer"):
        lds.HDF5Dataset(tmp_path / "x.h5")[1.5]  # type: ignore[index]
