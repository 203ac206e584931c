"""The order of samples, and their augmentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler, SubsetRandomSampler

import largeds_native as lds
from largeds_native.errors import ArgumentError, RowIndexError
from tests.builders.stores import make_labelled_store
from tests.loading.epochs import labels_of


def test_orders(store: Any) -> None:
    assert labels_of(lds.Loader(store, 30))[3] == list(range(90, 100))
    assert len(labels_of(lds.Loader(store, 30, drop_last=True))) == 3
    orders: list[dict[str, Any]] = [{"shuffle": True}, {"order": "block", "block": 7}]
    for order in orders:
        labels = sum(labels_of(lds.Loader(store, 9, **order)), [])
        assert sorted(labels) == list(range(100))
        assert labels != sorted(labels)


def test_block_reads_from_few_windows_at_a_time(tmp_path: Path) -> None:
    store = make_labelled_store(tmp_path, 2000, 1)
    labels = np.concatenate([np.array(b) for b in labels_of(lds.Loader(store, 50, order="block", block=10))])
    assert sorted(labels) == list(range(2000))
    for start in range(0, 2000 - 160, 160):
        assert len(set(labels[start : start + 160] // 10)) <= 32  # two groups of 16 windows at most


def test_weighted(store: Any) -> None:
    weights = np.zeros(100)
    weights[[3, 50]] = [1, 3]
    loader = lds.Loader(store, 10, weights=weights, augment=lds.Augment(random_crop=4))
    drawn = np.concatenate([np.array(b) for _ in range(20) for b in labels_of(loader)])
    assert set(drawn) == {3, 50}
    assert 0.7 < (drawn == 50).mean() < 0.8
    images, labels = next(iter(loader))
    assert len({image.numpy().tobytes() for image in images[labels == 50]}) > 1  # augmented anew each time


def test_indices_and_masks(store: Any) -> None:
    chosen = [5, 90, 17, 3]
    assert labels_of(lds.Loader(store, 3, indices=chosen)) == [[5, 90, 17], [3]]
    shuffled = lds.Loader(store, 3, shuffle=True, indices=torch.tensor(chosen))
    assert sorted(sum(labels_of(shuffled), [])) == sorted(chosen)
    mask = np.isin(np.arange(100), chosen)
    assert labels_of(lds.Loader(store, 4, indices=mask)) == [[3, 5, 17, 90]]


def test_torch_samplers(store: Any) -> None:
    assert labels_of(lds.Loader(store, 40, order=SequentialSampler(range(100)))) == labels_of(lds.Loader(store, 40))
    loader = lds.Loader(store, 40, order=SubsetRandomSampler(range(50, 90)))
    assert sorted(sum(labels_of(loader), [])) == list(range(50, 90))
    sampler = BatchSampler(SequentialSampler(range(100)), 30, drop_last=False)
    for size in (None, 64):
        loader = lds.Loader(store, size, order=sampler)
        assert len(loader) == 4
        assert [len(batch) for batch in labels_of(loader)] == [30, 30, 30, 10]
    uneven = [[1], [2, 3, 4], [5, 6]]
    assert labels_of(lds.Loader(store, None, order=uneven)) == uneven


def test_a_resumed_sampler_skips_what_was_seen(store: Any) -> None:
    order = RandomSampler(range(100), generator=torch.Generator().manual_seed(1))
    loader = lds.Loader(store, 16, order=order)
    iterator = iter(loader)
    seen = [next(iterator)[1].tolist() for _ in range(3)]
    state = loader.state_dict()
    rest = [labels.tolist() for _, labels in iterator]
    again = lds.Loader(store, 16, order=RandomSampler(range(100), generator=torch.Generator().manual_seed(1)))
    again.load_state_dict(state)
    assert labels_of(again) == rest
    assert sorted(sum(seen + rest, [])) == list(range(100))


def test_augment_is_a_function_of_seed_epoch_and_sample(store: Any) -> None:
    augment = lds.Augment(resized_crop=5, flip=0.5)

    def by_label(**kwargs: Any) -> dict[int, bytes]:
        loader = lds.Loader(store, dtype=torch.uint8, augment=augment, **kwargs)
        return {
            int(label): image.numpy().tobytes()
            for images, labels in loader
            for image, label in zip(images, labels, strict=True)
        }

    expected = by_label(batch_size=100)
    assert by_label(batch_size=7, shuffle=True, threads=4) == expected
    assert by_label(batch_size=16, order="block", block=5, prefetch=0) == expected
    assert by_label(batch_size=16, seed=1) != expected


def test_invalid_elements_of_a_sampler(store: Any) -> None:
    with pytest.raises(RowIndexError, match="row 100 is outside"):
        labels_of(lds.Loader(store, 2, order=[1, 2, 3, 100]))
    with pytest.raises(ArgumentError, match="lists of numbers"):
        labels_of(lds.Loader(store, None, order=[1, 2]))
    with pytest.raises(ArgumentError, match="numbers"):
        labels_of(lds.Loader(store, 2, order=[[1, 2]]))
