"""StoreDataset and ShuffleSampler in torch's own DataLoader."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader

import largeds_native as lds
from largeds_native.errors import ArgumentError, RowIndexError, StateError

ROOT = Path(__file__).parent.parent.parent


def half(image: torch.Tensor) -> torch.Tensor:
    return image[:, ::2, ::2].float()


@pytest.mark.parametrize(("workers", "context"), [(0, None), (2, "fork"), (2, "spawn")])
def test_in_a_dataloader(store: Any, workers: int, context: str | None) -> None:
    store.gather([0])  # its maps and threads are there when workers are forked
    for transform in (None, half):
        dataset = lds.StoreDataset(store, transform)
        loader = DataLoader(dataset, 16, num_workers=workers, multiprocessing_context=context)
        seen = []
        for images, labels in loader:
            assert labels.dtype == torch.int64
            expected = torch.from_numpy(np.stack([store.images[i] for i in labels.tolist()]))
            assert torch.equal(images, expected if transform is None else half(expected.flatten(0, 1)).view_as(images))
            seen += labels.tolist()
        assert seen == list(range(100))


def test_items(store: Any) -> None:
    dataset = lds.StoreDataset(store)
    image, label = dataset[7]
    assert (label, type(label)) == (7, int)
    assert torch.equal(image, torch.from_numpy(np.array(store.images[7])))
    assert dataset[-1][1] == 99
    assert [pair[1] for pair in dataset.__getitems__([5, 5, 2])] == [5, 5, 2]
    for bad in (100, -101):
        with pytest.raises(RowIndexError):
            dataset[bad]
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[7][0], image)


def test_a_batch_is_gathered_once_and_not_copied(store: Any) -> None:
    from torch.utils.data import default_collate

    dataset = lds.StoreDataset(store)
    samples = dataset.__getitems__([3, 1, 2])
    images, labels = default_collate(samples)
    assert images.data_ptr() == samples[0][0].data_ptr()
    assert labels.tolist() == [3, 1, 2]
    mixed = [*samples[:2], dataset[9]]
    assert default_collate(mixed)[1].tolist() == [3, 1, 9]
    assert default_collate(samples[::-1])[1].tolist() == [2, 1, 3]
    assert torch.equal(default_collate(samples[::-1])[0], images.flip(0))


def test_classes_and_targets(store: Any, tmp_path: Path) -> None:
    dataset = lds.StoreDataset(store)
    assert dataset.classes == store.classes
    assert dataset.targets == list(range(100))
    assert type(dataset.targets[0]) is int
    images = np.zeros((2, 3, 4, 4), np.uint8)
    unlabelled = lds.pack(lds.sources.arrays(images), tmp_path / "u.lds", resize=None, crop=None, progress=False)
    assert not hasattr(lds.StoreDataset(unlabelled), "targets")
    assert lds.StoreDataset(unlabelled).classes == []


@pytest.mark.parametrize("transform", [None, half])
@pytest.mark.parametrize(
    "labels",
    [np.arange(12, dtype=np.float32), np.arange(60, dtype=np.int64).reshape(12, 5), np.ones((12, 2), np.float16)],
    ids=["floats", "vectors", "halves"],
)
def test_float_and_vector_labels_keep_dtype_and_shape(tmp_path: Path, labels: Any, transform: Any) -> None:
    np.save(tmp_path / "x.npy", np.zeros((12, 3, 4, 4), np.uint8))
    np.save(tmp_path / "y.npy", labels)
    store = lds.open(tmp_path / "x.npy", label=tmp_path / "y.npy")
    expected = torch.from_numpy(labels)
    [(_, loaded)] = lds.Loader(store, 12)
    dataset = lds.StoreDataset(store, transform)
    [(_, collated)] = DataLoader(dataset, 12)
    [(_, concatenated)] = DataLoader(ConcatDataset([dataset]), 12)
    [(_, in_worker)] = DataLoader(dataset, 12, num_workers=1)
    for found in (loaded, collated, concatenated, in_worker):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


class Doubled(lds.StoreDataset):
    """What people write: a subclass with attributes and a `__getitem__` of its own."""

    def __init__(self, store: Any, factor: int) -> None:
        super().__init__(store, half)
        self.factor = factor

    def __getitem__(self, index: int) -> Any:
        image, label = super().__getitem__(index)
        return image, label * self.factor


class Renamed(lds.StoreDataset):
    pass


@pytest.mark.parametrize(("workers", "context"), [(0, None), (1, "fork"), (1, "spawn")])
def test_a_subclass_answers_for_batches_too(store: Any, workers: int, context: str | None) -> None:
    loader = DataLoader(Doubled(store, 2), 50, num_workers=workers, multiprocessing_context=context)
    assert torch.cat([labels for _, labels in loader]).tolist() == list(range(0, 200, 2))


def test_a_pickled_subclass_is_what_it_was(store: Any) -> None:
    again = pickle.loads(pickle.dumps(Doubled(store, 3)))
    assert (type(again), again.factor, again.transform, again[2][1]) == (Doubled, 3, half, 6)
    renamed = Renamed(store)
    assert len(renamed.targets) == 100  # cached
    copied = pickle.loads(pickle.dumps(renamed))
    assert type(copied) is Renamed
    assert copied.targets == renamed.targets
    assert "targets" not in renamed.__getstate__()


class WithTargets(lds.StoreDataset):
    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self.targets = [target + 1000 for target in range(len(store))]


def test_targets_of_a_subclass_are_pickled(store: Any) -> None:
    again = pickle.loads(pickle.dumps(WithTargets(store)))
    assert again.targets[:3] == [1000, 1001, 1002]
    assert lds.StoreDataset(store).__getitems__([-1])[0][1] == 99


@pytest.mark.parametrize("index", [1.5, "1", None, [1]])
def test_an_index_is_a_whole_number(store: Any, index: Any) -> None:
    dataset = lds.StoreDataset(store)
    with pytest.raises(TypeError, match="integer"):
        dataset[index]
    with pytest.raises((TypeError, ArgumentError), match=r"indices: expected one dimension of integers|integer"):
        dataset.__getitems__([0, index])


def test_a_path_is_no_store(store: Any) -> None:
    with pytest.raises(ArgumentError, match=r"store: expected a Store, as largeds_native.open gives, found str"):
        lds.StoreDataset(str(store.path))  # type: ignore[arg-type]


def test_hwc_gives_chw(store: Any, tmp_path: Any) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), np.uint8)
    hwc = lds.pack((images, range(5)), tmp_path / "h.lds", resize=None, crop=None, layout="HWC", progress=False)
    assert torch.equal(lds.StoreDataset(hwc)[2][0], torch.from_numpy(images[2]).permute(2, 0, 1))


# ---- ShuffleSampler ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [None, 5])
@pytest.mark.parametrize("world", [1, 3])
def test_sampler(store: Any, block: int | None, world: int) -> None:
    samplers = [lds.ShuffleSampler(100, 4, block, rank, world) for rank in range(world)]
    epochs = []
    for _ in range(2):
        parts = [list(sampler) for sampler in samplers]
        assert {len(part) for part in parts} == {len(samplers[0])}
        assert set(sum(parts, [])) == set(range(100))
        assert sum(map(len, parts)) - 100 < world
        epochs.append(parts)
    assert epochs[0] != epochs[1]
    for sampler in samplers:
        sampler.set_epoch(0)
    assert [list(sampler) for sampler in samplers] == epochs[0]


def test_sampler_resumes_in_another_world() -> None:
    first = lds.ShuffleSampler(50, 1)
    iterator = iter(first)
    seen = [next(iterator) for _ in range(20)]
    state = first.state_dict()
    assert state == {"version": 1, "seed": 1, "epoch": 0, "position": 20}
    others = [lds.ShuffleSampler(50, 1, rank=rank, world_size=2) for rank in range(2)]
    for other in others:
        other.load_state_dict(state)
    assert sorted(seen + sum((list(other) for other in others), [])) == list(range(50))
    assert others[0].state_dict()["epoch"] == 1
    with pytest.raises(StateError, match="seed"):
        first.load_state_dict(state | {"seed": 2})
    with pytest.raises(StateError, match="position"):
        first.load_state_dict(state | {"position": 51})


def test_sampler_in_a_dataloader(store: Any) -> None:
    sampler = lds.ShuffleSampler(len(store), seed=2)
    loader = DataLoader(lds.StoreDataset(store), 16, sampler=sampler, num_workers=2)
    labels = torch.cat([labels for _, labels in loader])
    assert sorted(labels.tolist()) == list(range(100))
    assert labels.tolist() == list(lds.ShuffleSampler(len(store), seed=2))


BAD = [{"n": 0}, {"n": 5, "seed": -1}, {"n": 5, "block": 0}, {"n": 5, "rank": 1}]
BAD += [{"n": 1.5}, {"n": 2**70}, {"n": 5, "block": 1.5}, {"n": 5, "rank": 0.5}]


@pytest.mark.parametrize("kwargs", BAD)
def test_bad_arguments(kwargs: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError):
        lds.ShuffleSampler(**kwargs)


@pytest.mark.parametrize("epoch", [1.5, -1, "1", 2**70])
def test_an_epoch_is_a_number(epoch: Any) -> None:
    with pytest.raises(ArgumentError, match="epoch: expected a whole number from 0"):
        lds.ShuffleSampler(5).set_epoch(epoch)


# ---- slots shared with workers -------------------------------------------------------------------------------------


def views(samples: list[Any]) -> list[torch.Tensor]:
    """A collate function that returns views of the gathered batch."""
    return [image for image, _ in samples]


def both(samples: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    from torch.utils.data import default_collate

    images, _ = default_collate(samples)
    return images, images[1:]


@pytest.mark.parametrize("collate", [None, views, both])
def test_batches_from_workers_are_safe_to_keep(store: Any, collate: Any) -> None:
    kwargs = {} if collate is None else {"collate_fn": collate}
    loader = DataLoader(lds.StoreDataset(store), 4, num_workers=2, persistent_workers=True, **kwargs)
    for _ in range(3):
        kept = list(loader)
        for number, batch in enumerate(kept):
            expected = torch.from_numpy(np.array(store.images[number * 4 : number * 4 + 4]))
            images = torch.stack(batch) if collate is views else batch[0]
            assert torch.equal(images, expected)
            assert type(images) is torch.Tensor
            if collate is both:
                assert torch.equal(batch[1], expected[1:])


class Counting(lds.StoreDataset):
    """Reports the number of slots of its worker after each batch."""

    def __getitems__(self, indices: Any) -> list[Any]:
        samples = super().__getitems__(indices)
        for sample in samples:
            sample.batch.made = len(self._memory._shared._slots)
        return samples


def with_slots(samples: list[Any]) -> tuple[torch.Tensor, int]:
    from torch.utils.data import default_collate

    made = samples[0].batch.made
    return default_collate(samples)[0], made


def test_a_worker_reuses_its_slots(store: Any) -> None:
    loader = DataLoader(Counting(store), 4, num_workers=1, collate_fn=with_slots)
    assert max(made for _, made in loader) <= 5  # of 25 batches


class Transformed(lds.StoreDataset):
    """Returns the number of slots of its worker instead of the labels."""

    def __getitems__(self, indices: Any) -> list[Any]:
        return [(image, len(self._memory._shared._slots)) for image, _ in super().__getitems__(indices)]


def test_transformed_items_use_no_shared_slots(store: Any) -> None:
    """They would never be released, as the sent items are made from the batch, and are not the batch."""
    loader = DataLoader(Transformed(store, half), 4, num_workers=1)
    assert {int(made) for _, slots in loader for made in slots} == {0}


class Keeping(lds.StoreDataset):
    """Its worker keeps a view of every fourth batch, and returns the values of the views instead of the labels."""

    kept: list[torch.Tensor]

    def __getitems__(self, indices: Any) -> list[Any]:
        self.kept = getattr(self, "kept", [])
        samples = super().__getitems__(indices)
        if indices[0] % 16 == 0:
            self.kept.append(samples[0][0])
        return samples


def with_what_is_kept(samples: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    from torch.utils.data import default_collate, get_worker_info

    info = get_worker_info()
    assert info is not None
    return default_collate(samples)[0], torch.stack([*info.dataset.kept])


def test_a_view_that_a_worker_keeps_does_not_change(store: Any) -> None:
    """The batch is still sent whole; its slot is reused when neither process holds it."""
    loader = DataLoader(Keeping(store), 4, num_workers=1, collate_fn=with_what_is_kept)
    for number, (images, kept) in enumerate(loader):
        assert torch.equal(images, torch.from_numpy(np.array(store.images[number * 4 : number * 4 + 4])))
        assert torch.equal(kept, torch.from_numpy(np.array(store.images[: number * 4 + 1 : 16])))


def test_the_count_of_holders() -> None:
    import pickle
    from multiprocessing.reduction import ForkingPickler

    from largeds_native import _C
    from largeds_native.loading.shared import SharedSlots

    slots = SharedSlots()
    batch = slots.tensor((2, 3), torch.float32).fill_(5)
    (slot,) = slots._slots
    assert int(slot[0]) == 1
    view = batch[1]
    assert type(view) is torch.Tensor
    sent = [bytes(ForkingPickler.dumps(batch)) for _ in range(2)]  # to two processes
    assert int(slot[0]) == 3
    received = [pickle.loads(data) for data in sent]
    assert all(type(one) is torch.Tensor for one in received)
    assert all(bool((one == 5).all()) for one in received)
    del batch
    assert int(slot[0]) == 3  # a view is alive
    del view
    assert int(slot[0]) == 2
    part = received.pop()[0]
    received.clear()
    assert int(slot[0]) == 1
    assert not _C.slot_is_free(slot)
    del part
    assert _C.slot_is_free(slot)
    assert slots.tensor((2, 3), torch.float32).slot is slot


# ---- private names of torch ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "missing",
    [
        ["_disabled_torch_function_impl"],
        ["default_collate_fn_map"],
        ["_disabled_torch_function_impl", "default_collate_fn_map"],
    ],
    ids=" ".join,
)
def test_without_private_names_of_torch_batches_are_plain_tensors(store: Any, missing: list[str]) -> None:
    program = [sys.executable, "-W", "error", "-m", "tests.programs.torch_without_hooks", str(store.path), *missing]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
