"""Invalid arguments raise an error before any thread starts."""

from __future__ import annotations

import inspect
import os
import threading
from typing import Any

import numpy as np
import pytest
import torch

import largeds_native as lds
from largeds_native.errors import ArgumentError, RowIndexError
from tests.loading.epochs import MEAN


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"batch_size": 0}, "batch_size: expected an integer, 1 or more, found 0"),
        ({"batch_size": 2.5}, "batch_size"),
        ({"batch_size": None}, "batch sampler"),
        ({"prefetch": -1}, "prefetch"),
        ({"threads": 0}, "threads"),
        ({"seed": -1}, "seed"),
        (
            {"order": "random"},
            "order: expected 'block', 'weighted' or a sampler, found 'random'. shuffle=True",
        ),
        ({"shuffle": True, "order": "block"}, "shuffle=True and order='block': expected one of them"),
        ({"shuffle": True, "order": [1, 2]}, "shuffle=True and order=list: expected one of them"),
        ({"shuffle": True, "weights": np.ones(100)}, "shuffle=True and weights: expected one of them"),
        ({"shuffle": "block"}, "shuffle: expected True or False, found 'block'"),
        ({"order": [1, 2], "weights": np.ones(100)}, "weights are for order='weighted', found order=list"),
        ({"order": [1, 2], "indices": [1]}, "not for a sampler"),
        ({"augment": lds.Augment(random_crop=9)}, "9x9 does not fit into images of 8x8"),
        ({"augment": lds.Augment(center_crop=9)}, "9x9 does not fit into images of 8x8"),
        ({"mean": (0.5,)}, "mean: expected 3"),
        ({"std": (0.5, 0.5, 0)}, "std: expected numbers above 0"),
        ({"mean": (123.675, 116.28, 103.53)}, r"pass mean=\(0.485, 0.456, 0.406\)"),
        ({"mean": MEAN, "std": (58.395, 57.12, 57.375)}, r"pass std=\(0.229, 0.224, 0.225\)"),
        ({"mean": MEAN, "dtype": torch.uint8}, "need a float dtype"),
        ({"dtype": torch.float64}, "dtype: expected one of"),
        ({"augment": 0.5}, "augment: expected an Augment"),
        ({"variant": "any"}, "variant: expected one of draw, cycle"),
        ({"device": "meta"}, "device"),
        ({"indices": [0, 100]}, "indices: expected numbers from 0 to 99, found 0 to 100"),
        ({"indices": [-1]}, "indices"),
        ({"indices": []}, "empty subset"),
        ({"indices": [0.5]}, "integers"),
        ({"indices": np.ones(3, bool)}, "mask of 100 bools"),
        ({"weights": np.ones(3)}, "weights: expected 100"),
        ({"weights": -np.ones(100)}, "weights"),
        ({"order": "weighted"}, "needs weights"),
        ({"order": "block", "weights": np.ones(100)}, "weights are for"),
        ({"order": np.arange(100), "weights": np.ones(100)}, "weights are for order='weighted', found order=ndarray"),
        ({"block": 5}, "block is for"),
        ({"order": "block", "block": 0}, "block: expected at least 1"),
        ({"rank": 2, "world_size": 2}, "rank: expected 0 to world_size - 1"),
        ({"rank": 0}, "rank and world_size together"),
        ({"fields": ("label", "caption")}, "no field 'caption', its fields are: 'label'"),
        ({"fields": 5}, "fields: expected names of fields, as .*, found 5"),
        ({"fields": ("label", 5)}, "fields: expected names of fields"),
        ({"prefetch": 2**31}, "prefetch: expected an integer, from 0 to 65536, found 2147483648"),
        ({"threads": 2**31}, "threads: expected an integer, from 1 to 1024"),
        ({"order": "block", "block": 1.5}, "block: expected at least 1 row, as a whole number below 2.*, found 1.5"),
        ({"order": "block", "block": "2"}, "block: expected at least 1 row"),
        ({"order": "block", "block": 2**70}, "block: expected at least 1 row"),
        ({"device": "xyz"}, "device: expected 'cpu', 'cuda' or 'cuda:0', found 'xyz'"),
        ({"device": None}, "device: expected 'cpu', .* found None"),
        ({"drop_last": "no"}, "drop_last: expected True or False, found 'no'"),
        ({"channels_last": "no"}, "channels_last: expected True or False, found 'no'"),
        ({"weights": "abc"}, "weights: expected 100 numbers, one per sample, found 'abc'"),
        ({"rank": 0.5, "world_size": 2}, "rank: expected 0 to world_size - 1, found rank=0.5"),
        ({"rank": "0", "world_size": 2}, "rank: expected 0 to world_size - 1, found rank='0'"),
    ],
)
def test_bad_arguments(store: Any, kwargs: dict[str, Any], message: str) -> None:
    before = threading.active_count(), len(os.listdir("/proc/self/task"))
    with pytest.raises(ArgumentError, match=message):
        lds.Loader(store, **{"batch_size": 4, **kwargs})
    after = threading.active_count(), len(os.listdir("/proc/self/task"))
    assert all(now <= then for now, then in zip(after, before, strict=True))  # a thread of another test may end now


@pytest.mark.parametrize("row", [2**63, 2**70, -(2**70), 100, -1])
def test_rows_that_no_store_has(store: Any, row: int) -> None:
    with pytest.raises(RowIndexError, match=r"expected list to give row numbers, found some beyond 64 bits|is outside"):
        list(lds.Loader(store, 4, order=[0, row]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": 0.5}, "variant: expected a whole number from 0 to 0, found 0.5"),
        ({"variant": "0"}, "variant: expected a whole number"),
        ({"threads": 0.5}, "threads: expected a whole number from 1 to 1024, found 0.5"),
        ({"threads": 2**40}, "threads: expected a whole number"),
        ({"crop": 2**40}, "center_crop: expected sides of at least 1 pixel, and at most 65536"),
    ],
)
def test_bad_arguments_of_gather(store: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        store.gather([0], **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flip": "a"}, "flip: expected a probability"),
        ({"random_crop": 4, "padding": 2**40}, "padding: expected a number of pixels from 0 to 65536"),
        ({"random_crop": 2**40}, "random_crop: expected sides of at least 1 pixel, and at most 65536"),
    ],
)
def test_bad_arguments_of_augment(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        lds.Augment(**options)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"num_workers": 4}, "num_workers is an argument of DataLoader, .* threads=n"),
        ({"pin_memory": True}, "device='cuda'"),
        ({"prefetch_factor": 2}, "prefetch=n"),
        ({"sampler": range(3)}, "order=sampler"),
        ({"collate_fn": list}, "fields="),
        ({"transform": None}, "transform is an argument of datasets, .* augment=Augment"),
        ({"threads": 0}, "threads: expected 1 or more, or None, found 0. Unlike num_workers"),
        ({"order": True}, "order: expected 'block', 'weighted', a sampler .* found True"),
        ({"order": 5}, "found 5"),
    ],
)
def test_habits_of_dataloader_are_answered_with_our_words(store: Any, words: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        lds.Loader(store, 4, **words)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_in_a_dataloader(store: Any, workers: int) -> None:
    batches = torch.utils.data.DataLoader(lds.Loader(store, 4), num_workers=workers)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"a Loader gives batches .* a largeds_native\.StoreDataset"):
        next(iter(batches))


def test_the_signature_is_still_the_loaders() -> None:
    assert "channels_last" in inspect.signature(lds.Loader).parameters
    with pytest.raises(TypeError, match="unexpected keyword argument 'shufle'"):
        lds.Loader(None, 4, shufle=True)  # type: ignore[call-arg,arg-type]
