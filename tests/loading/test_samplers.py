"""Orders that repeat samples, torch's samplers as orders, and what a state can go on from."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

import largeds_native as lds
from largeds_native.errors import ArgumentError, StateError

ROOT = Path(__file__).parents[2]
CROP = lds.Augment(resized_crop=6, flip=0.5)


def by_position(loader: lds.Loader) -> list[tuple[int, bytes]]:
    """(label, pixels) of each sample of an epoch."""
    return [
        (int(label), image.numpy().tobytes())
        for images, labels in loader
        for image, label in zip(images, labels, strict=True)
    ]


REPEATING: list[dict[str, Any]] = [
    {"order": "weighted", "weights": np.ones(100)},
    {"order": "weighted", "weights": np.ones(32), "indices": [3, 5, 8, 13] * 8},
    {"indices": [7] * 20 + [9] * 20},
    {"indices": [7, 9, 7, 9, 11] * 8, "shuffle": True},
    {"indices": [7, 9, 7, 9, 11] * 8, "order": "block", "block": 2},
    {"order": WeightedRandomSampler([1.0] * 5, 40)},
    {"order": [3, 3, 4, 4, 3] * 6},
]


@pytest.mark.parametrize("order", REPEATING, ids=lambda order: ", ".join(order))
def test_a_sample_that_comes_twice_is_augmented_twice(store: Any, order: dict[str, Any]) -> None:
    epoch = by_position(lds.Loader(store, 8, augment=CROP, seed=4, **order))
    labels = [label for label, _ in epoch]
    assert len(set(labels)) < len(labels)
    assert len(set(epoch)) > 0.9 * len(epoch)  # a flip of a symmetric crop may be the same


@pytest.mark.parametrize("order", REPEATING, ids=lambda order: ", ".join(order))
def test_its_draws_depend_on_the_position_alone(store: Any, order: dict[str, Any]) -> None:
    """Not on the batch size, nor on where the run was resumed."""
    whole = by_position(lds.Loader(store, 8, augment=CROP, seed=4, **order))
    assert by_position(lds.Loader(store, 3, augment=CROP, seed=4, **order)) == whole
    first = lds.Loader(store, 4, augment=CROP, seed=4, **order)
    iterator = iter(first)
    for _ in range(3):
        next(iterator)
    rest = lds.Loader(store, 7, augment=CROP, seed=4, **order)
    rest.load_state_dict(first.state_dict())
    assert by_position(rest) == whole[12:]


@pytest.mark.parametrize("batched", [False, True])
def test_set_epoch_reaches_nested_samplers(store: Any, batched: bool) -> None:
    inner = DistributedSampler(range(100), 2, 0, shuffle=True)
    order: Any = BatchSampler(inner, 10, False) if batched else inner
    loader = lds.Loader(store, None if batched else 10, order=order)
    epochs = [[label for label, _ in by_position(loader)] for _ in range(2)]
    assert epochs[0] != epochs[1]
    expected = []
    for epoch in range(2):
        inner.set_epoch(epoch)
        expected.append(list(inner))
    assert epochs == expected


RANDOM: dict[str, Any] = {
    "random": lambda: RandomSampler(range(100)),
    "with its own generator": lambda: RandomSampler(range(100), generator=torch.Generator().manual_seed(3)),
    "with replacement": lambda: RandomSampler(range(100), replacement=True, num_samples=60),
    "subset": lambda: SubsetRandomSampler(range(10, 90)),
    "weighted": lambda: WeightedRandomSampler([1.0, 2.0] * 50, 70),
    "batches": lambda: BatchSampler(RandomSampler(range(100)), 8, False),
}


def labels_of(loader: lds.Loader) -> list[int]:
    return [label for _, labels in loader for label in labels.tolist()]


@pytest.mark.parametrize("kind", RANDOM)
def test_torchs_random_samplers_are_functions_of_seed_and_epoch(store: Any, kind: str) -> None:
    """As in another process: the global generator is elsewhere, and a generator of one's own is new."""
    size = None if kind == "batches" else 8

    def loader(seed: int = 1) -> lds.Loader:
        return lds.Loader(store, size, order=RANDOM[kind](), seed=seed)

    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = loader()
    epochs = [labels_of(first) for _ in range(3)]
    assert torch.equal(torch.get_rng_state(), before)
    assert epochs[0] != epochs[1]
    torch.manual_seed(1)
    cut = loader()
    labels_of(cut)
    iterator = iter(cut)
    for _ in range(3):
        next(iterator)
    resumed = loader()
    resumed.load_state_dict(cut.state_dict())
    assert [labels_of(resumed), labels_of(resumed)] == [epochs[1][24:], epochs[2]]
    assert labels_of(loader(seed=2)) != epochs[0]


def test_a_generator_of_the_users_is_not_touched(store: Any) -> None:
    generator = torch.Generator().manual_seed(3)
    before = generator.get_state()
    order = RandomSampler(range(100), generator=generator)
    labels_of(lds.Loader(store, 8, order=order))
    assert torch.equal(generator.get_state(), before)
    assert order.generator is generator


class Own(Sampler[int]):
    """Draws from the global generator, each time anew."""

    def __len__(self) -> int:
        return 100

    def __iter__(self) -> Iterator[int]:
        yield from torch.randperm(100).tolist()


def test_an_order_that_is_another_on_resume_is_refused(store: Any) -> None:
    cut = lds.Loader(store, 8, order=Own())
    iterator = iter(cut)
    next(iterator)
    state = cut.state_dict()
    assert all(isinstance(value, int) for value in state.values())
    resumed = lds.Loader(store, 8, order=Own())
    resumed.load_state_dict(state)
    with pytest.raises(StateError, match=r"Own gives another order .* set_epoch"):
        next(iter(resumed))


@pytest.mark.parametrize(
    "other",
    [
        Own(),
        range(100),
        RandomSampler(range(99)),
        RandomSampler(range(100), generator=torch.Generator().manual_seed(1)),
        BatchSampler(RandomSampler(range(100)), 8, True),
        WeightedRandomSampler([1.0] * 100, 100),
        WeightedRandomSampler([1.0] * 99 + [2.0], 100),
    ],
    ids=lambda sampler: type(sampler).__name__,
)
def test_a_state_of_another_sampler_is_refused(store: Any, other: Any) -> None:
    batched = isinstance(other, BatchSampler)
    mine: Any = BatchSampler(RandomSampler(range(100)), 8, False) if batched else RandomSampler(range(100))
    if isinstance(other, WeightedRandomSampler) and other.weights[-1] == 2:
        mine = WeightedRandomSampler([1.0] * 100, 100)
    state = lds.Loader(store, None if batched else 8, order=mine).state_dict()
    loader = lds.Loader(store, None if batched else 8, order=other)
    with pytest.raises(StateError, match="another order"):
        loader.load_state_dict(state)


@pytest.mark.parametrize("order", [iter(range(100)), map(int, range(100)), (i for i in range(100))])
def test_what_has_one_epoch_only_is_refused(store: Any, order: Any) -> None:
    with pytest.raises(ArgumentError, match="which is empty after the first"):
        lds.Loader(store, 8, order=order)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_look_at_a_dataloader_takes_nothing_from_the_next_epoch(store: Any, workers: int) -> None:
    sampler = lds.ShuffleSampler(len(store), seed=2)
    loader = DataLoader(lds.StoreDataset(store), 8, sampler=sampler, num_workers=workers)
    next(iter(loader))
    for _ in range(2):
        assert sorted(label for _, labels in loader for label in labels.tolist()) == list(range(100))


def test_a_loaded_state_is_gone_on_from_once() -> None:
    sampler = lds.ShuffleSampler(10, seed=2)
    whole = list(sampler)
    again = lds.ShuffleSampler(10, seed=2)
    again.load_state_dict({"version": 1, "seed": 2, "epoch": 0, "position": 6})
    assert list(again) == whole[6:]
    assert sorted(again) == list(range(10))


def test_resume_in_another_process(store: Any, tmp_path: Path) -> None:
    """The whole way, as people meet it: torch's RandomSampler, a state in a file, a new process."""
    program = (
        "import json, sys, largeds_native as lds\n"
        "from torch.utils.data import RandomSampler\n"
        "loader = lds.Loader(lds.open(sys.argv[1]), 8, order=RandomSampler(range(100)))\n"
        "if sys.argv[2] != 'null': loader.load_state_dict(json.loads(sys.argv[2]))\n"
        "batches = iter(loader)\n"
        "seen = [label for _ in range(int(sys.argv[3])) for label in next(batches)[1].tolist()]\n"
        "print(json.dumps([seen, loader.state_dict()]))\n"
    )

    def run(state: Any, count: int) -> Any:
        command = [sys.executable, "-c", program, str(store.path), json.dumps(state), str(count)]
        return json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)

    seen, state = run(None, 5)
    rest, _ = run(state, 8)
    assert sorted(seen + rest) == list(range(100))


def test_a_tensor_as_order_resumes_in_another_process(store: Any) -> None:
    """Its `indices` is a method, which is at another address there."""
    one, other = (lds.Loader(store, 4, order=torch.tensor([5, 3, 1, 2, 8, 9])) for _ in range(2))
    next(iter(one))
    other.load_state_dict(one.state_dict())
    assert labels_of(other) == [8, 9]


class Growing(Sampler[int]):
    """Its length depends on the epoch."""

    def __init__(self) -> None:
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return 8 + 4 * self.epoch

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))


def test_a_sampler_whose_length_depends_on_the_epoch(store: Any) -> None:
    loader = lds.Loader(store, 4, order=Growing())
    assert [len(labels_of(loader)), len(loader)] == [8, 2]
    iterator = iter(loader)
    next(iterator)
    assert len(loader) == 3
    resumed = lds.Loader(store, 4, order=Growing())
    resumed.load_state_dict(loader.state_dict())
    assert labels_of(resumed) == list(range(4, 12))


@pytest.mark.parametrize("order", [[True, False], np.array([True, False]), torch.tensor([True, False]), b"ab"])
def test_a_mask_is_no_order(store: Any, order: Any) -> None:
    with pytest.raises(ArgumentError, match="a mask is for indices="):
        lds.Loader(store, 4, order=order)


def test_indices_are_the_loaders_own(store: Any) -> None:
    indices = np.arange(10)
    loader = lds.Loader(store, 5, indices=indices)
    indices[:] = 22
    assert labels_of(loader) == list(range(10))


def test_weights_whose_sum_is_too_large(store: Any) -> None:
    with pytest.raises(ArgumentError, match="weights: expected finite numbers"):
        lds.Loader(store, 5, weights=np.full(100, 1e308))
