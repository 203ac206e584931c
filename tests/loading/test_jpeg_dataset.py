"""StoreDataset over JPEG rows in torch's DataLoader."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import largeds_native as lds
from largeds_native.store import JpegStore
from tests.builders.stores import make_jpeg_store


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> JpegStore:
    return make_jpeg_store(tmp_path_factory.mktemp("jpeg"), classes=12)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> JpegStore:
    return make_jpeg_store(tmp_path_factory.mktemp("jpeg"), sizes=((60, 80),), classes=12)


def corner(image: torch.Tensor) -> torch.Tensor:
    return image[:, :40, :30].float()


@pytest.mark.parametrize(("workers", "context"), [(0, None), (2, "fork"), (2, "spawn")])
def test_in_a_dataloader(many: JpegStore, one: JpegStore, workers: int, context: str | None) -> None:
    many.gather([0], resize=8, crop=8)  # its files and threads are there when workers are forked
    for store, transform in ((many, corner), (one, corner), (one, None)):
        loader = DataLoader(lds.StoreDataset(store, transform), 5, num_workers=workers, multiprocessing_context=context)
        seen = []
        for images, labels in loader:
            for image, row in zip(images, labels.tolist(), strict=True):
                expected = torch.from_numpy(store[row][0])
                assert torch.equal(image, expected if transform is None else transform(expected))
            seen += labels.tolist()
        assert seen == list(range(12))


def test_items_have_their_own_size(many: JpegStore) -> None:
    dataset = lds.StoreDataset(many)
    assert [tuple(dataset[row][0].shape) for row in (0, 1, 2)] == [(3, 60, 80), (3, 90, 50), (3, 48, 48)]
    assert [label for _, label in dataset.__getitems__([5, 5, 2])] == [5, 5, 2]
    assert torch.equal(dataset[-1][0], torch.from_numpy(many[11][0]))
    assert dataset.targets == list(range(12))
    assert dataset.classes == many.classes
    with pytest.raises(lds.RowIndexError):
        dataset[12]
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[1][0], dataset[1][0])


def test_lists_of_images_for_detection(many: JpegStore) -> None:
    """With a collate function that does not stack."""
    loader = DataLoader(lds.StoreDataset(many), 4, collate_fn=lambda pairs: [image for image, _ in pairs])
    sizes = [tuple(image.shape[1:]) for images in loader for image in images]
    assert sizes == [tuple(size) for size in np.asarray(many.sizes[:]).tolist()]


def test_torchvision_transforms(many: JpegStore) -> None:
    v2 = pytest.importorskip("torchvision.transforms.v2")
    transform: Any = v2.Compose([v2.RandomResizedCrop(32, antialias=True), v2.RandomHorizontalFlip()])
    for images, labels in DataLoader(lds.StoreDataset(many, transform), 6, shuffle=True):
        assert images.shape == (6, 3, 32, 32)
        assert images.dtype == torch.uint8
        assert len(labels) == 6
    central: Any = v2.Compose([v2.Resize(40, antialias=True), v2.CenterCrop(32)])
    image = lds.StoreDataset(many, central)[0][0]
    ours = many.gather([0], resize=40, crop=32)[0]
    assert (image.int() - ours.int()).abs().max() <= 1  # torchvision resizes tensors in floats


def test_the_layout_hwc(tmp_path_factory: pytest.TempPathFactory) -> None:
    store = make_jpeg_store(tmp_path_factory.mktemp("jpeg"), layout="HWC")
    image, _ = lds.StoreDataset(store)[0]
    assert torch.equal(image, torch.from_numpy(store[0][0]).permute(2, 0, 1))


def test_the_loader_has_the_store_as_its_dataset(many: JpegStore) -> None:
    loader = lds.Loader(many, 4, augment=lds.Augment(resize=40, center_crop=32), dtype=torch.uint8)
    assert loader.dataset is many
    assert len(loader.dataset) == 12
    batches = list(loader)
    assert torch.equal(torch.cat([images for images, _ in batches]), many.gather(range(12), resize=40, crop=32))
    for options in ({}, {"augment": lds.Augment(flip=0.5)}):
        with pytest.raises(lds.ArgumentError, match=r"many sizes.*resized_crop=224"):
            lds.Loader(many, 4, **options)
