"""The loader: right batches, safe to keep, in any order, from any position."""

from __future__ import annotations

import gc
import itertools
import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler, SubsetRandomSampler

import largeds_native as lds
from largeds_native.errors import ArgumentError, RowIndexError, StateError
from largeds_native.measure import forget
from tests.loader.stores import MEAN, STD, assert_same, epoch_of, labels_of, make_store, reference_batch


def test_batches_equal_totensor_and_normalize(store: Any) -> None:
    loader = lds.Loader(store, 16, mean=MEAN, std=STD)
    seen = []
    for images, labels in loader:
        assert images.dtype == torch.float32
        assert images.is_contiguous()
        torch.testing.assert_close(images, reference_batch(store, labels), rtol=0, atol=1e-6)
        seen += labels.tolist()
    assert sorted(seen) == list(range(100))
    assert len(loader) == 7


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("channels_last", [False, True])
def test_dtypes_and_layouts(store: Any, dtype: torch.dtype, channels_last: bool) -> None:
    with lds.Loader(store, 32, dtype=dtype, channels_last=channels_last) as loader:
        for images, labels in loader:
            stored = torch.stack([torch.from_numpy(np.array(store.images[i])) for i in labels.tolist()])
            expected = stored if dtype == torch.uint8 else (stored / 255).to(dtype)
            torch.testing.assert_close(images, expected, rtol=1e-2 if dtype == torch.bfloat16 else 1e-3, atol=0)
            layout = torch.channels_last if channels_last else torch.contiguous_format
            assert images.is_contiguous(memory_format=layout)


def test_every_epoch_has_its_order_whatever_the_threads(store: Any) -> None:
    one, other = (lds.Loader(store, 16, seed=3, threads=threads, prefetch=ahead) for threads, ahead in ((1, 0), (4, 5)))
    epochs = [labels_of(one) for _ in range(3)]
    assert [labels_of(other) for _ in range(3)] == epochs
    assert len({str(epoch) for epoch in epochs}) == 3
    other.set_epoch(1)
    assert labels_of(other) == epochs[1]
    assert labels_of(lds.Loader(store, 16, seed=4)) not in epochs


def test_a_kept_batch_keeps_its_values(store: Any) -> None:
    loader = lds.Loader(store, 8, order="sequential", dtype=torch.uint8)
    kept = [images[2:4] for images, _ in loader]  # views, of every batch
    for _ in range(3):
        for _ in loader:
            pass
    for number, view in enumerate(kept):
        assert torch.equal(view, torch.from_numpy(np.array(store.images[number * 8 + 2 : number * 8 + 4])))


def test_the_ring_grows_and_shrinks(store: Any) -> None:
    loader = lds.Loader(store, 2, prefetch=2)
    for batch in itertools.chain(loader, loader):
        del batch
    assert loader.stats()["allocations"] <= 4  # two ahead, one delivered, one that is let go: no more in any epoch
    kept = epoch_of(loader)
    assert loader.stats()["slots"] >= 50
    kept.clear()
    for _ in range(4):
        for batch in loader:
            del batch
    assert loader.stats()["slots"] <= 4
    loader.close()
    assert loader.stats()["slots"] == 0


def test_a_sliding_window_of_kept_batches_does_not_allocate(store: Any) -> None:
    loader = lds.Loader(store, 2)
    window: list[Any] = []
    allocations = []
    for _ in range(6):
        for batch in loader:
            window = [*window[-7:], batch]
        allocations.append(loader.stats()["allocations"])
    assert allocations[-1] <= 20, allocations  # of 300 batches


# ---- orders ------------------------------------------------------------------------------------------------------


def test_orders(store: Any) -> None:
    assert labels_of(lds.Loader(store, 30, order="sequential"))[3] == list(range(90, 100))
    assert len(labels_of(lds.Loader(store, 30, order="sequential", drop_last=True))) == 3
    for order in ("random", "block"):
        block = {"block": 7} if order == "block" else {}
        labels = sum(labels_of(lds.Loader(store, 9, order=order, **block)), [])
        assert sorted(labels) == list(range(100))
        assert labels != sorted(labels)


def test_block_reads_from_few_windows_at_a_time(tmp_path: Path) -> None:
    store = make_store(tmp_path, 2000, 1)
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
    assert labels_of(lds.Loader(store, 3, order="sequential", indices=chosen)) == [[5, 90, 17], [3]]
    assert sorted(sum(labels_of(lds.Loader(store, 3, indices=torch.tensor(chosen))), [])) == sorted(chosen)
    mask = np.isin(np.arange(100), chosen)
    assert labels_of(lds.Loader(store, 4, order="sequential", indices=mask)) == [[3, 5, 17, 90]]


def test_torch_samplers(store: Any) -> None:
    assert labels_of(lds.Loader(store, 40, order=SequentialSampler(range(100)))) == labels_of(
        lds.Loader(store, 40, order="sequential")
    )
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

    def by_label(**words: Any) -> dict[int, bytes]:
        loader = lds.Loader(store, dtype=torch.uint8, augment=augment, **words)
        return {
            int(label): image.numpy().tobytes()
            for images, labels in loader
            for image, label in zip(images, labels, strict=True)
        }

    expected = by_label(batch_size=100, order="sequential")
    assert by_label(batch_size=7, threads=4) == expected
    assert by_label(batch_size=16, order="block", block=5, prefetch=0) == expected
    assert by_label(batch_size=16, seed=1) != expected


# ---- resuming ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["sequential", "random", "block", "weighted"])
def test_resumed_after_any_batch_the_rest_is_identical(store: Any, order: str) -> None:
    words: dict[str, Any] = {"order": order, "augment": lds.Augment(random_crop=6, padding=1, flip=0.5)}
    words |= {"weights": np.arange(100) + 1} if order == "weighted" else {}
    words |= {"block": 4} if order == "block" else {}
    whole = lds.Loader(store, 16, seed=9, **words)
    expected = [epoch_of(whole), epoch_of(whole)]
    for stop in range(8):
        first = lds.Loader(store, 16, seed=9, threads=1, **words)
        iterator = iter(first)
        for _ in range(stop):
            next(iterator, None)
        state = first.state_dict()
        assert all(isinstance(value, int) for value in state.values())
        resumed = lds.Loader(store, 16, seed=9, threads=3, prefetch=1, **words)
        resumed.load_state_dict(state)
        assert_same(epoch_of(resumed), expected[0][stop:])
        assert_same(epoch_of(resumed), expected[1])


def test_state_after_a_break_and_at_the_end(store: Any) -> None:
    loader = lds.Loader(store, 10)
    for number, _ in enumerate(loader):
        if number == 3:
            break
    assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (0, 40)
    first = labels_of(loader)  # a new iteration is the next epoch, whole
    assert len(first) == 10
    assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (2, 0)
    loader.set_epoch(1)
    assert labels_of(loader) == first


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 100), size=st.integers(1, 20), world=st.integers(1, 5), again=st.integers(1, 5),
    stop=st.integers(0, 6), drop_last=st.booleans(), order=st.sampled_from(["random", "sequential"]),
)  # fmt: skip
def test_ranks_share_an_epoch_and_resume_in_another_world(
    store: Any, n: int, size: int, world: int, again: int, stop: int, drop_last: bool, order: str
) -> None:
    def loaders(world_size: int) -> list[Any]:
        words = {"indices": range(n), "order": order, "drop_last": drop_last, "threads": 1, "prefetch": 0}
        return [lds.Loader(store, size, rank=r, world_size=world_size, **words) for r in range(world_size)]

    first = loaders(world)
    whole = [labels_of(loader) for loader in first]
    assert {len(loader) for loader in first} == {len(batches) for batches in whole}
    assert all(len(set(map(len, parts))) == 1 for parts in zip(*whole, strict=True))  # equal sizes on all ranks
    flat = sum(itertools.chain(*whole), [])
    if drop_last:
        assert len(flat) == len(set(flat)) == n // (size * world) * size * world
    else:
        assert set(flat) == set(range(n))
        assert len(flat) - n < world

    for loader in first:
        loader.set_epoch(0)
    begun = [iter(loader) for loader in first]
    seen = [next(it, (None, torch.empty(0)))[1].tolist() for it in begun for _ in range(stop)]
    states = [loader.state_dict() for loader in first]
    if states[0]["epoch"] != 0 or len(set(map(str, states))) != 1:
        assert len(set(map(str, states))) == 1  # all ranks are at the same place
        return
    rest = []
    for loader in loaders(again):
        loader.load_state_dict(states[0])
        rest += sum(labels_of(loader), [])
    flat = sum(seen, [])
    if drop_last:
        assert not set(flat) & set(rest)
    else:
        assert set(rest) >= set(range(n)) - set(flat)
        assert len(rest) - (n - len(set(flat))) < again


# ---- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"batch_size": 0}, "batch_size: expected an integer, 1 or more, found 0"),
        ({"batch_size": 2.5}, "batch_size"),
        ({"batch_size": None}, "batch sampler"),
        ({"prefetch": -1}, "prefetch"),
        ({"threads": 0}, "threads"),
        ({"seed": -1}, "seed"),
        ({"order": "shuffled"}, "order: expected one of sequential, random, block, weighted"),
        ({"augment": lds.Augment(random_crop=9)}, "9x9 does not fit into images of 8x8"),
        ({"augment": lds.Augment(center_crop=9)}, "9x9 does not fit into images of 8x8"),
        ({"mean": (0.5,)}, "mean: expected 3"),
        ({"std": (0.5, 0.5, 0)}, "std: expected numbers above 0"),
        ({"mean": MEAN, "dtype": torch.uint8}, "expected a float dtype"),
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
        ({"order": "weighted"}, "weights are for"),
        ({"block": 5}, "block is for"),
        ({"order": "block", "block": 0}, "block: expected at least 1"),
        ({"rank": 2, "world_size": 2}, "rank: expected 0 to world_size - 1"),
        ({"rank": 0}, "rank and world_size together"),
        ({"fields": ("label", "caption")}, "no field 'caption', its fields are: 'label'"),
    ],
)
def test_bad_arguments(store: Any, words: dict[str, Any], message: str) -> None:
    before = threading.active_count(), len(os.listdir("/proc/self/task"))
    with pytest.raises(ArgumentError, match=message):
        lds.Loader(store, **{"batch_size": 4, **words})
    assert (threading.active_count(), len(os.listdir("/proc/self/task"))) == before


def test_threads_share_an_iterator(store: Any) -> None:
    iterator = iter(lds.Loader(store, 3))
    seen: list[int] = []
    threads = [
        threading.Thread(target=lambda: seen.extend(sum((b[1].tolist() for b in iterator), []))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == list(range(100))


def test_a_huge_batch_takes_no_more_than_the_store(store: Any) -> None:
    assert labels_of(lds.Loader(store, 1 << 40, order="sequential")) == [list(range(100))]
    with pytest.raises(ArgumentError, match="expected a Store"):
        lds.Loader("train.lds", 4)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="can't be pickled"):
        pickle.dumps(lds.Loader(store, 4))


def test_what_a_sampler_gives_is_checked(store: Any) -> None:
    with pytest.raises(RowIndexError, match="row 100 is outside"):
        labels_of(lds.Loader(store, 2, order=[1, 2, 3, 100]))
    with pytest.raises(ArgumentError, match="lists of numbers"):
        labels_of(lds.Loader(store, None, order=[1, 2]))
    with pytest.raises(ArgumentError, match="numbers"):
        labels_of(lds.Loader(store, 2, order=[[1, 2]]))


def test_an_error_comes_at_its_batch_and_the_next_is_whole(store: Any) -> None:
    iterator = iter(lds.Loader(store, 2, order=[1, 2, 500, 3, 4, 5]))
    assert next(iterator)[1].tolist() == [1, 2]
    with pytest.raises(RowIndexError, match="row 500"):
        next(iterator)
    assert next(iterator)[1].tolist() == [4, 5]


def test_states_that_do_not_fit(store: Any, tmp_path: Path) -> None:
    state = lds.Loader(store, 4).state_dict()
    other = make_store(tmp_path, 50)
    for loader, message in (
        (lds.Loader(other, 4), "another store"),
        (lds.Loader(store, 4, seed=1), "another seed"),
        (lds.Loader(store, 4, indices=range(99)), "another order"),
        (lds.Loader(store, 4, order="sequential"), "another order"),
    ):
        with pytest.raises(StateError, match=message):
            loader.load_state_dict(state)
    loader = lds.Loader(store, 4)
    for change, message in (
        ({"version": 2}, "version 2, this release reads 1"),
        ({"position": 101}, "expected 0 to 100, found 101"),
        ({"position": -1}, "position"),
        ({"epoch": -1}, "epoch"),
    ):
        with pytest.raises(StateError, match=message):
            loader.load_state_dict(state | change)
    with pytest.raises(StateError, match="state_dict"):
        loader.load_state_dict({})


# ---- life --------------------------------------------------------------------------------------------------------


def tasks() -> int:
    return len(os.listdir("/proc/self/task"))


def handles() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_nothing_is_left_behind(store: Any) -> None:
    labels_of(lds.Loader(store, 10))  # what stays for good is there now
    gc.collect()
    before = tasks(), handles()
    for _ in range(20):
        loader = lds.Loader(store, 10, threads=3)
        for _ in loader:
            break
        next(iter(loader))
        abandoned = iter(loader)
        del abandoned, loader
    with lds.Loader(store, 10) as loader:
        iterator = iter(loader)
        next(iterator)
    gc.collect()
    assert (tasks(), handles()) == before
    with pytest.raises(ArgumentError, match="closed during"):
        next(iterator)
    with pytest.raises(ArgumentError, match="closed"):
        iter(loader)


def test_two_iterators_do_not_disturb_each_other(store: Any) -> None:
    loader = lds.Loader(store, 16)
    expected = [labels_of(loader), labels_of(loader)]
    loader.set_epoch(0)
    pairs = list(zip(loader, loader, strict=True))
    assert [a[1].tolist() for a, _ in pairs] == expected[0]
    assert [b[1].tolist() for _, b in pairs] == expected[1]


def test_the_end_stays_the_end(store: Any) -> None:
    iterator = iter(lds.Loader(store, 60))
    assert len(list(iterator)) == 2
    assert next(iterator, None) is None
    assert next(iterator, None) is None


def test_batches_are_made_while_python_holds_the_gil(store: Any) -> None:
    loader = lds.Loader(store, 10, prefetch=5)
    iterator = iter(loader)
    deadline = time.monotonic() + 20
    while loader.stats()["ready"] < 5 and time.monotonic() < deadline:
        pass  # this thread never lets the GIL go for long
    assert loader.stats()["ready"] == 5
    next(iterator)


def test_a_forked_child_iterates_anew(store: Any) -> None:
    loader = lds.Loader(store, 10, threads=2)
    iterator = iter(loader)
    kept = next(iterator)
    child = os.fork()
    if child == 0:
        try:
            code = 1
            kept_sum = int(kept[1].sum())
            loader.set_epoch(0)
            labels = sum(labels_of(loader), [])
            try:
                next(iterator)
            except ArgumentError as error:
                code = 0 if sorted(labels) == list(range(100)) and "forked" in str(error) and kept_sum >= 0 else 2
            del kept, iterator, loader
            gc.collect()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert len(list(iterator)) == 9


def test_fields_of_any_shape(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    from PIL import Image

    for i in range(6):
        Image.fromarray(np.full((4, 4, 3), i, np.uint8)).save(tmp_path / f"{i}.png")
    table.write_text("path,label,weight\n" + "".join(f"{i}.png,{i % 2},{i / 2}\n" for i in range(6)))
    store = lds.pack(table, tmp_path / "s.lds", resize=None, crop=None, progress=False)
    loader = lds.Loader(store, 4, order="sequential", fields=("weight", "label"), dtype=torch.uint8)
    images, weight, label = next(iter(loader))
    assert weight.tolist() == [0, 0.5, 1, 1.5]
    assert label.tolist() == [0, 1, 0, 1]
    assert images[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert len(next(iter(lds.Loader(store, 4, fields=())))) == 1


def test_stats(store: Any) -> None:
    loader = lds.Loader(store, 10, dtype=torch.uint8)
    iterator = iter(loader)
    kept = [next(iterator) for _ in range(4)]
    stats = loader.stats()
    assert (stats["batches"], stats["samples"], stats["bytes"]) == (4, 40, 40 * 3 * 8 * 8)
    assert stats["images_per_second"] > 0
    assert 0 <= stats["waiting_share"] <= 1
    assert stats["pending"] <= 3
    assert stats["slots_in_use"] >= len(kept)
    assert len(list(iterator)) == 6


ENDS = {
    "in the midst": "iterator = iter(loader); batch = next(iterator)",
    "with a batch kept": "batch = list(loader)[3]",
    "by an exception": "iterator = iter(loader); raise SystemExit(0)",
    "by a thread that still waits": (
        "import threading; threading.Thread(target=lambda: list(loader), daemon=True).start(); next(iter(loader))"
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_interpreter_ends_at_once(store: Any, end: str) -> None:
    code = f"import largeds_native as lds; loader = lds.Loader(lds.open({str(store.path)!r}), 4); {ENDS[end]}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    if "thread" not in end:  # that thread is told, as far as the interpreter still prints it
        assert done.stderr == ""


def test_rows_that_are_not_in_memory_are_asked_for_ahead(tmp_path: Path) -> None:
    store = make_store(tmp_path, 200, 64)
    files = [path for path, _ in store.image_files()]
    expected = labels_of(lds.Loader(store, 10, seed=5))
    for advice in (os.POSIX_FADV_DONTNEED, os.POSIX_FADV_WILLNEED):
        store.close()
        gc.collect()  # a mapped page stays
        fresh = lds.open(store.path)
        forget(files)
        for path in files if advice == os.POSIX_FADV_WILLNEED else []:
            path.read_bytes()
        loader = lds.Loader(fresh, 10, seed=5, prefetch=0)
        iterator = iter(loader)
        assert [next(iterator)[1].tolist() for _ in range(5)] == expected[:5]
        assert loader.stats()["read_ahead"] <= (50 if advice == os.POSIX_FADV_DONTNEED else 0)
