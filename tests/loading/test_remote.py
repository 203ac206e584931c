"""Loading from object storage: the batches are those of a local copy, bit for bit."""

from __future__ import annotations

import signal
import threading
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import largeds_native as lds
from largeds_native._internal import retries
from largeds_native._internal.objects import ObjectFolder
from largeds_native.errors import ArgumentError, StorageError, StoreError
from tests.builders.s3 import Bucket
from tests.builders.stores import largest_shard, make_jpeg_store, make_labelled_store
from tests.loading.epochs import assert_same, epoch_of, labels_of

pytestmark = [
    pytest.mark.s3,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]
ROWS, SHARDS = 8, 32
BY_SHARD: dict[str, Any] = {"order": "block", "block": "shard", "seed": 5}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.001)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_labelled_store(tmp_path_factory.mktemp("raw"), ROWS * SHARDS, shard_bytes=ROWS * 3 * 8 * 8)


@pytest.fixture
def url(raw: Any, bucket: Bucket) -> str:
    url = f"{bucket.url}/a.lds"
    lds.push(raw, url, progress=False)
    bucket.faults.forget()
    return url


def fetched(bucket: Bucket) -> Counter[str]:
    """How often each shard's images were fetched."""
    return Counter(path.split("/")[-2] for path in bucket.faults.paths(match="images."))


@pytest.mark.parametrize("prefetch", [0, 3])
@pytest.mark.parametrize("order", [{}, {"shuffle": True}, BY_SHARD, {"order": "block", "block": 5}])
def test_batches_are_those_of_a_local_copy(
    url: str, raw: Any, bucket: Bucket, tmp_path: Path, order: dict[str, Any], prefetch: int
) -> None:
    kwargs = {"augment": lds.Augment(resized_crop=6, flip=0.5), "prefetch": prefetch, "threads": 2, **order}
    store = lds.open(url, cache=tmp_path / "cache")
    loader, expected = lds.Loader(store, 10, **kwargs), lds.Loader(raw, 10, **kwargs)
    for _ in range(2):
        assert_same(epoch_of(loader), epoch_of(expected))
    assert set(fetched(bucket).values()) == {1}
    assert len(fetched(bucket)) == SHARDS
    assert loader.stats()["fetched_shards"] == 0  # of the second epoch
    assert loader.stats()["fetch_waiting_seconds"] == 0


@pytest.mark.parametrize("prefetch", [0, 3])
def test_a_cache_of_a_quarter(url: str, raw: Any, bucket: Bucket, tmp_path: Path, prefetch: int) -> None:
    limit = SHARDS // 4 * largest_shard(raw)
    store = lds.open(url, cache=tmp_path / "cache", cache_bytes=limit)
    loader = lds.Loader(store, 5, prefetch=prefetch, **BY_SHARD)
    expected = lds.Loader(raw, 5, **BY_SHARD)
    most = 0
    for epoch in range(3):
        for ours, theirs in zip(loader, expected, strict=True):
            assert_same([ours], [theirs])
            most = max(most, len(list((tmp_path / "cache").glob("*/shard-*"))))
        assert sum(fetched(bucket).values()) <= 1.1 * SHARDS * (epoch + 1) + SHARDS // 4
    assert most <= SHARDS // 4
    loader.close()
    assert str(tmp_path / "cache") not in Path("/proc/self/maps").read_text()


def test_resume_in_the_middle_and_ranks(url: str, raw: Any, tmp_path: Path) -> None:
    limit = SHARDS // 4 * largest_shard(raw)
    for world_size in (1, 2, 3):
        for rank in range(world_size):
            kwargs = {**BY_SHARD, "rank": rank, "world_size": world_size}
            store = lds.open(url, cache=tmp_path / "cache", cache_bytes=limit)
            expected = labels_of(lds.Loader(raw, 7, **kwargs))
            first = lds.Loader(store, 7, **kwargs)
            iterator = iter(first)
            seen = [next(iterator)[1].tolist() for _ in range(4)]
            state = first.state_dict()
            first.close()
            again = lds.Loader(store, 7, **kwargs)
            again.load_state_dict(state)
            assert seen + labels_of(again) == expected
            local = lds.Loader(raw, 7, **kwargs)
            local.load_state_dict(state)
            assert seen + labels_of(local) == expected


def test_jpeg_rows_and_joined_stores(bucket: Bucket, raw: Any, url: str, tmp_path: Path) -> None:
    local = make_jpeg_store(tmp_path, 24, shard_bytes=1 << 19, classes=256)
    lds.push(local, f"{bucket.url}/j.lds", progress=False)
    limit = 3 * largest_shard(local)
    store = lds.open(f"{bucket.url}/j.lds", cache=tmp_path / "cache", cache_bytes=limit)
    kwargs = {**BY_SHARD, "augment": lds.Augment(resized_crop=20)}
    assert_same(epoch_of(lds.Loader(store, 3, **kwargs)), epoch_of(lds.Loader(local, 3, **kwargs)))
    other = make_labelled_store(tmp_path, 20, name="o.lds", shard_bytes=ROWS * 3 * 8 * 8)
    remote = lds.open(url, cache=tmp_path / "cache", cache_bytes=8 * largest_shard(raw))
    for parts in ([remote, other], [other, remote]):
        joined = lds.concat(parts)
        same = lds.concat([raw if part is remote else part for part in parts])
        assert_same(epoch_of(lds.Loader(joined, 6, **BY_SHARD)), epoch_of(lds.Loader(same, 6, **BY_SHARD)))


def test_a_random_order_and_a_small_cache(url: str, raw: Any, tmp_path: Path) -> None:
    store = lds.open(url, cache=tmp_path / "cache", cache_bytes=6 * largest_shard(raw))
    with pytest.warns(UserWarning, match=r"holds less than the store.*pass order='block', block='shard'"):
        loader = lds.Loader(store, 4, shuffle=True, prefetch=2, indices=range(0, 256, 8))
    assert labels_of(loader) == labels_of(lds.Loader(raw, 4, shuffle=True, indices=range(0, 256, 8)))
    with pytest.warns(UserWarning, match="holds less than the store"):
        loader = lds.Loader(store, 32, shuffle=True)
    with pytest.raises(StoreError, match=r"a batch needs \d+ shards of .* at once, .* and cache_bytes is"):
        next(iter(loader))


def test_errors_come_in_the_place_of_their_batch(url: str, raw: Any, bucket: Bucket, tmp_path: Path) -> None:
    store = lds.open(url, cache=tmp_path / "cache")
    loader = lds.Loader(store, ROWS, prefetch=3)
    bucket.faults.match, bucket.faults.fail, bucket.faults.status = "shard-00004/images", 10**6, 403
    iterator = iter(loader)
    assert [int(next(iterator)[1][0]) // ROWS for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(StorageError, match="permission denied"):
        next(iterator)
    assert loader.state_dict()["position"] == 4 * ROWS
    bucket.faults.fail = 0
    assert [int(labels[0]) // ROWS for _, labels in iterator] == list(range(4, SHARDS))


def test_a_store_that_is_replaced_while_training(url: str, raw: Any, tmp_path: Path) -> None:
    store = lds.open(url, cache=tmp_path / "cache", cache_bytes=4 * largest_shard(raw))
    loader = lds.Loader(store, ROWS)
    iterator = iter(loader)
    next(iterator)
    changed = bytearray((raw.path / "shard-00020/images.npy").read_bytes())
    changed[-1] ^= 1
    ObjectFolder(url).write("shard-00020/images.npy", bytes(changed))
    for _ in range(19):
        next(iterator)
    with pytest.raises(StoreError, match=r"shard-00020 is not the shard that the manifest lists .*was replaced"):
        next(iterator)


class Interrupt(BaseException):
    pass


def raise_inside(_: int, frame: Any) -> None:
    """Raises only in what the iterator calls: a batch that this file is about to assign can't be kept."""
    while frame is not None and frame.f_code.co_filename != __file__:
        if "/largeds_native/" in frame.f_code.co_filename:
            raise Interrupt
        frame = frame.f_back


def test_interrupts_lose_nothing(url: str, raw: Any, bucket: Bucket, tmp_path: Path) -> None:
    bucket.faults.match, bucket.faults.delay = "images.npy", 0.05
    store = lds.open(url, cache=tmp_path / "cache", cache_bytes=8 * largest_shard(raw))
    loader = lds.Loader(store, 5, **BY_SHARD)
    iterator, seen, interrupts = iter(loader), [], 0
    before = signal.signal(signal.SIGALRM, raise_inside)
    try:
        while True:
            signal.setitimer(signal.ITIMER_REAL, 0.03)
            try:
                batch = next(iterator, None)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupt:
                interrupts += 1
                continue
            if batch is None:
                break
            seen.append(batch[1].tolist())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupts
    assert seen == labels_of(lds.Loader(raw, 5, **BY_SHARD))


def test_threads_end_with_the_loader(url: str, raw: Any, bucket: Bucket, tmp_path: Path) -> None:
    def fetching() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("largeds-fetch")]

    store = lds.open(url, cache=tmp_path / "cache", cache_bytes=8 * largest_shard(raw))
    loader = lds.Loader(store, 5, **BY_SHARD)
    iterator = iter(loader)
    next(iterator)
    assert fetching()
    loader.close()
    assert not fetching()
    assert not store.cache._pins
    with lds.Loader(store, 5, **BY_SHARD) as other:
        next(iter(other))  # collected at once, and its threads end soon
    deadline = time.monotonic() + 10
    while fetching() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not fetching()


def test_the_garbage_collector_waits_for_no_thread(url: str, raw: Any, bucket: Bucket, tmp_path: Path) -> None:
    """It may run in fsspec's own thread, which the threads that fetch wait for."""
    import fsspec.asyn

    bucket.faults.match, bucket.faults.delay = "images.npy", 0.3
    store = lds.open(url, cache=tmp_path / "cache", cache_bytes=8 * largest_shard(raw))
    iterator = iter(lds.Loader(store, 5, **BY_SHARD))
    next(iterator)
    host, threads = iterator._host, iterator._host._fetcher._threads
    done = threading.Event()

    def collect() -> None:
        host.close()
        done.set()

    fsspec.asyn.get_loop().call_soon_threadsafe(collect)
    assert done.wait(10)
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert not store.cache._pins


def test_stats(url: str, raw: Any, tmp_path: Path) -> None:
    loader = lds.Loader(lds.open(url, cache=tmp_path / "cache"), 10)
    epoch_of(loader)
    stats = loader.stats()
    assert stats["fetched_shards"] == SHARDS
    rows = sum((shard.path / name).stat().st_size for shard in raw.shards for name in ("images.npy", "label.npy"))
    assert stats["fetched_bytes"] == rows
    assert stats["cache_hits"] == 0
    assert stats["fetch_waiting_seconds"] > 0
    loader = lds.Loader(lds.open(url, cache=tmp_path / "cache"), 10)
    epoch_of(loader)
    assert loader.stats()["cache_hits"] == SHARDS
    assert loader.stats()["fetched_bytes"] == 0
    assert "fetched_bytes" not in lds.Loader(raw, 10).stats()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_dataset(url: str, raw: Any, tmp_path: Path, workers: int) -> None:
    store = lds.open(url, cache=tmp_path / "cache", cache_bytes=8 * largest_shard(raw))
    batches = torch.utils.data.DataLoader(
        lds.StoreDataset(store), 4, num_workers=workers, timeout=120 if workers else 0
    )
    expected = torch.utils.data.DataLoader(lds.StoreDataset(raw), 4)
    for ours, theirs in zip(batches, expected, strict=True):
        assert_same([ours], [theirs])


def test_samplers(url: str, raw: Any, tmp_path: Path) -> None:
    store = lds.open(url, cache=tmp_path / "cache", cache_bytes=8 * largest_shard(raw))
    order = np.random.default_rng(0).permutation(len(raw)).tolist()
    assert labels_of(lds.Loader(store, 4, order=order)) == labels_of(lds.Loader(raw, 4, order=order))


def test_what_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="on_damage='skip': expected a local store"):
        lds.Loader(lds.open(url, cache=tmp_path / "cache"), 4, on_damage="skip")
    with pytest.raises(ArgumentError, match=r"pass largeds_native.open\(url, cache=FOLDER\)"):
        lds.Loader(lds.open(url), 4)


def test_two_loaders_share_a_small_cache(url: str, raw: Any, tmp_path: Path) -> None:
    """Their orders differ, so that each needs what the other would evict."""
    results: dict[int, Any] = {}

    def run(seed: int) -> None:
        store = lds.open(url, cache=tmp_path / "cache", cache_bytes=5 * largest_shard(raw))
        results[seed] = labels_of(lds.Loader(store, 5, order="block", block="shard", seed=seed))

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(2)]
    started = time.monotonic()
    with warnings.catch_warnings():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(200)
    assert time.monotonic() - started < 200
    for seed in range(2):
        assert results[seed] == labels_of(lds.Loader(raw, 5, order="block", block="shard", seed=seed))
