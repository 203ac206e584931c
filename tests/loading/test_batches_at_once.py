"""Several batches are filled at once, and nobody can tell from the batches. More: test_batches_at_once.cpp."""

from __future__ import annotations

import gc
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import largeds_native as lds
from tests.builders.stores import make_jpeg_store
from tests.loading.epochs import assert_same, epoch_of, labels_of

CROP = lds.Augment(resized_crop=32, flip=0.5)


@pytest.fixture(scope="module")
def jpegs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Of 12 rows, 3 can't be decoded."""
    store = make_jpeg_store(tmp_path_factory.mktemp("jpegs"), classes=12)
    offsets = np.load(store.shards[0].path / "images.offsets.npy")
    with (store.shards[0].path / "images.bin").open("r+b") as file:
        for row in (0, 1, 7):
            file.seek(int(offsets[row]) + 2)
            file.write(bytes(20))
    return lds.open(store.path)


def loader_of(store: Any, at_once: int = 0, **options: Any) -> lds.Loader:
    loader = lds.Loader(store, options.pop("batch_size", 5), **options)
    loader._spec = replace(loader._spec, at_once=at_once)  # type: ignore[type-var]
    return loader


@given(
    batch_size=st.integers(1, 40),
    threads=st.sampled_from([2, 3, 16, 64]),
    prefetch=st.integers(0, 6),
    at_once=st.integers(0, 3),
    variety=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_batches_are_those_of_one_thread(
    store: Any, batch_size: int, threads: int, prefetch: int, at_once: int, variety: bool
) -> None:
    options: dict[str, Any] = {"batch_size": batch_size, "shuffle": True, "seed": 4}
    if variety:
        options |= {"augment": [CROP, lds.Augment(flip=0.5)], "dtype": torch.float16}
    expected = epoch_of(loader_of(store, 1, threads=1, prefetch=0, **options))
    found = epoch_of(loader_of(store, at_once, threads=threads, prefetch=prefetch, **options))
    flat = lambda epoch: [(*(images if variety else [images]), labels) for images, labels in epoch]  # noqa: E731
    assert_same(flat(found), flat(expected))


@pytest.mark.parametrize("threads", [1, 2, 16])
@pytest.mark.parametrize("prefetch", [0, 1, 4])
def test_replaced_samples_are_counted_as_by_one_thread(jpegs: Any, threads: int, prefetch: int) -> None:
    options: dict[str, Any] = {"shuffle": True, "augment": CROP, "on_damage": "skip", "indices": list(range(12)) * 5}
    one, several = (
        loader_of(jpegs, **options, **kind)
        for kind in ({"threads": 1, "prefetch": 0, "at_once": 1}, {"threads": threads, "prefetch": prefetch})
    )
    with pytest.warns(RuntimeWarning, match="replaced by the next one"):
        expected = epoch_of(one)
    with pytest.warns(RuntimeWarning, match="replaced by the next one"):
        assert_same(epoch_of(several), expected)
    assert one.stats()["replaced"] == several.stats()["replaced"] == 15


def test_errors_come_in_the_place_of_their_batch(jpegs: Any) -> None:
    loader = lds.Loader(jpegs, 3, augment=CROP, threads=4, prefetch=4)
    iterator = iter(loader)
    with pytest.raises(lds.LargedsError, match="row 0"):
        next(iterator)
    assert next(iterator)[1].tolist() == [3, 4, 5]
    with pytest.raises(lds.LargedsError, match="row 7"):
        next(iterator)
    assert next(iterator)[1].tolist() == [9, 10, 11]
    assert next(iterator, None) is None


def test_stats_tell_whether_the_loader_keeps_up(store: Any) -> None:
    slow: dict[str, Any] = {"augment": lds.Augment(resized_crop=48), "indices": np.arange(5).repeat(2000)}
    loader = lds.Loader(store, 2000, threads=1, prefetch=0, **slow)
    labels_of(loader)
    stats = loader.stats()
    assert stats["batches"] == 5
    assert 1 <= stats["waits"] <= 5
    assert 0 < stats["longest_wait_seconds"] <= stats["waiting_seconds"]
    loader = lds.Loader(store, 10, prefetch=10, threads=2)
    iterator = iter(loader)
    wait_until(lambda: loader.stats()["ready"] == 10)
    assert len(list(iterator)) == 10
    assert loader.stats()["waits"] == loader.stats()["longest_wait_seconds"] == 0


def wait_until(holds: Any) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def states() -> list[str]:
    """Of the other threads of this process: "S" is asleep, "R" runs."""
    tasks = (task for task in Path("/proc/self/task").iterdir() if int(task.name) != threading.get_native_id())
    return [(task / "stat").read_text().rpartition(") ")[2][0] for task in tasks]


def test_all_threads_sleep_while_the_consumer_works(store: Any) -> None:
    loader = lds.Loader(store, 10, threads=8, prefetch=3)
    iterator = iter(loader)
    for _ in range(3):
        next(iterator)
        wait_until(lambda: loader.stats()["ready"] == 3)
        wait_until(lambda: set(states()) <= {"S"})  # a thread that waits busily sleeps now and then: look again
        assert all(set(states()) <= {"S"} for _ in range(20))


def test_a_fork_while_batches_are_filled(store: Any) -> None:
    options: dict[str, Any] = {"augment": CROP, "threads": 3, "prefetch": 4, "indices": list(range(100)) * 10}
    expected = epoch_of(lds.Loader(store, 100, **options))
    loader = lds.Loader(store, 100, **options)
    for _ in range(5):
        loader.set_epoch(0)
        iterator = iter(loader)
        kept = next(iterator)
        child = os.fork()  # some of the next batches are being filled
        if child == 0:
            try:
                code = 1
                loader.set_epoch(0)
                # by numpy: torch's threads don't survive a fork
                for found, wanted in zip(list(loader), expected, strict=True):
                    assert all(np.array_equal(a.numpy(), b.numpy()) for a, b in zip(found, wanted, strict=True))
                del kept, iterator, loader
                gc.collect()
                code = 0
            finally:
                os._exit(code)
        assert_same([kept, *iterator], expected)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0


def test_closing_while_batches_are_filled(store: Any) -> None:
    options: dict[str, Any] = {"augment": CROP, "threads": 3, "prefetch": 4, "indices": list(range(100)) * 10}
    for count in range(4):
        with lds.Loader(store, 100, **options) as loader:
            iterator = iter(loader)
            kept = [next(iterator) for _ in range(count)]
        assert loader.stats()["slots_in_use"] == count
        assert_same(kept, epoch_of(lds.Loader(store, 100, **options))[:count])
