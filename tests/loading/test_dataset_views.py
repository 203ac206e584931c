"""StoreDataset with an augment: views and masks, in this process and in workers of DataLoader."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import largeds_native as lds
from largeds_native import _C
from largeds_native.errors import ArgumentError
from tests.builders.masks import make_mask_tree

LARGE, SMALL = lds.Augment(resized_crop=20, flip=0.5), lds.Augment(resized_crop=(8, 10), scale=(0.1, 0.4))


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("views")
    tree = make_mask_tree(folder, highest=40_000)
    options: dict[str, Any] = {"masks": tree.masks, "progress": False}
    return {
        "raw": lds.pack(tree.images, folder / "raw", resize=32, crop=24, **options),
        "jpeg": lds.pack(tree.images, folder / "jpeg", codec="jpeg", **options),
    }


def dataset(store: Any, **options: Any) -> lds.StoreDataset:
    return lds.StoreDataset(store, **{"augment": [LARGE, SMALL], "fields": ("mask", "label"), **options})


@pytest.mark.parametrize("kind", ["raw", "jpeg"])
def test_items_are_views_of_one_geometry(stores: dict[str, Any], kind: str) -> None:
    store = stores[kind]
    torch.manual_seed(3)
    seed = int(torch.randint(1 << 62, ()))
    torch.manual_seed(3)
    items = dataset(store).__getitems__([5, 0])
    for (images, masks, label), row in zip(items, (5, 0), strict=True):
        assert [tuple(view.shape) for view in images] == [(3, 20, 20), (3, 8, 10)]
        assert label == store["label"][row]
        numbers = np.asarray(store["mask"][row])
        for view, (mask, augment) in enumerate(zip(masks, (LARGE, SMALL), strict=True)):
            (x0, y0, x1, y1), _, _, flip, _ = _C.geometry(augment.core(), *numbers.shape, seed, 0, row, view)
            part = numbers[y0:y1, x0:x1]
            values = mask.numpy()[:, ::-1] if flip else mask.numpy()
            assert values[0, 0] == part[int((y1 - y0) / 2 / len(values)), int((x1 - x0) / 2 / values.shape[1])]
    torch.manual_seed(3)
    single = dataset(store, augment=LARGE, fields=("label",)).__getitems__([5, 0])
    assert all(torch.equal(views[0], image) for (views, _, _), (image, _) in zip(items, single, strict=True))


@pytest.mark.parametrize("kind", ["raw", "jpeg"])
@pytest.mark.parametrize("workers", [0, 2])
def test_in_a_data_loader(stores: dict[str, Any], kind: str, workers: int) -> None:
    seen = []
    for augment in ([LARGE, SMALL], [LARGE], LARGE):
        found = list(DataLoader(dataset(stores[kind], augment=augment, fields=("label",)), 3, num_workers=workers))
        seen.append(torch.cat([labels for _, labels in found]).tolist())
        images = found[0][0]
        shapes = [tuple(view.shape) for view in images] if isinstance(augment, list) else tuple(images.shape)
        assert shapes == (
            [(3, 3, 20, 20), (3, 3, 8, 10)][: len(augment)] if isinstance(augment, list) else (3, 3, 20, 20)
        )
    assert seen == [stores[kind]["label"][:].tolist()] * 3


def test_kinds_of_images_transforms_and_names(stores: dict[str, Any]) -> None:
    pil = dataset(stores["jpeg"], image="pil", transform=lambda image: image.size)
    images, masks, _ = pil[1]
    assert images == [(20, 20), (10, 8)]
    assert [mask.size for mask in masks] == [(20, 20), (10, 8)]
    sample = dataset(stores["raw"], image="numpy", names={"image": "pixel_values"})[1]
    assert [view.shape for view in sample["pixel_values"]] == [(20, 20, 3), (8, 10, 3)]
    assert [mask.dtype for mask in sample["mask"]] == [np.uint16, np.uint16]
    plain = dataset(stores["raw"], augment=None)
    image, mask, _ = plain[2]
    assert image.shape == (3, 24, 24)
    np.testing.assert_array_equal(mask.numpy(), stores["raw"]["mask"][2])


def test_draws_are_torchs(stores: dict[str, Any]) -> None:
    data = pickle.loads(pickle.dumps(dataset(stores["raw"])))
    torch.manual_seed(1)
    first, second = data[0][0][0], data[0][0][0]
    torch.manual_seed(1)
    assert torch.equal(first, data[0][0][0])
    assert not torch.equal(first, second)


def test_what_can_not_be(stores: dict[str, Any], tmp_path: Path) -> None:
    for augment, message in (
        (lambda epoch: LARGE, "a Dataset does not know the epoch"),
        ([], "found a list of 0"),
        (lds.Augment(flip=0.5), "have many sizes"),
    ):
        with pytest.raises(ArgumentError, match=message):
            dataset(stores["jpeg"], augment=augment)
