"""Stores in object storage, opened through a cache."""

from __future__ import annotations

import errno
import gc
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import largeds_native as lds
from largeds_native._internal import retries
from largeds_native._internal.objects import ObjectFolder
from largeds_native.errors import ArgumentError, MissingObjectError, StorageError, StoreError
from largeds_native.store import RemoteJpegStore, RemoteStore
from largeds_native.store.remote import cache_folder
from tests.builders.s3 import Bucket
from tests.builders.stores import largest_shard, make_jpeg_store, make_labelled_store

pytestmark = [
    pytest.mark.s3,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]
SHARD = 8 * 3 * 8 * 8  # bytes of the images of 8 rows


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.001)


@pytest.fixture
def raw(tmp_path: Path) -> Any:
    """40 rows in 5 shards."""
    return make_labelled_store(tmp_path, 40, shard_bytes=SHARD)


@pytest.fixture
def url(raw: Any, bucket: Bucket) -> str:
    url = f"{bucket.url}/deep/a.lds"
    lds.push(raw, url, progress=False)
    bucket.faults.forget()
    return url


def cached(cache: Path) -> set[str]:
    return {path.name for path in cache.glob("*/shard-*")}


def test_opening_takes_one_request(url: str, raw: Any, bucket: Bucket, tmp_path: Path) -> None:
    store = lds.open(url, cache=tmp_path / "cache")
    assert isinstance(store, RemoteStore)
    assert len(bucket.faults.requests) == 1
    assert len(store) == 40
    assert store.identity == raw.identity
    assert store.fields == raw.fields
    assert url in repr(store)
    assert not cached(tmp_path / "cache")


def test_everything_is_as_of_a_local_store(url: str, raw: Any, bucket: Bucket, tmp_path: Path) -> None:
    store = lds.open(url, cache=tmp_path / "cache")
    image, label = store[17]
    assert (image == raw[17][0]).all()
    assert label == 17
    assert cached(tmp_path / "cache") == {"shard-00002"}
    np.testing.assert_array_equal(store["label"][:], raw["label"][:])
    np.testing.assert_array_equal(np.asarray(store.images), np.asarray(raw.images))
    rows = [39, 0, 17, 17]
    assert (store.gather(rows) == raw.gather(rows)).all()
    assert store.samples.equals(raw.samples)
    assert store.report == raw.report
    assert store.verify().ok
    assert store.statistics == raw.statistics
    assert [path for path in bucket.faults.paths(match="images.npy") if "shard-00002" in path] != []
    assert len(bucket.faults.paths(match="images.npy")) == 5  # each shard once
    again = pickle.loads(pickle.dumps(store))
    assert (again.gather(rows) == raw.gather(rows)).all()
    assert len(bucket.faults.paths(match="images.npy")) == 5
    store.close()
    assert store[3][1] == 3


def test_jpeg_rows(bucket: Bucket, tmp_path: Path) -> None:
    local = make_jpeg_store(tmp_path, 12, shard_bytes=1 << 19)
    assert len(local.shards) > 1
    url = f"{bucket.url}/j.lds"
    lds.push(local, url, progress=False)
    store = lds.open(url, cache=tmp_path / "cache", cache_bytes=largest_shard(local) * 3 // 2)
    assert isinstance(store, RemoteJpegStore)
    for row in (0, 11, 3, 0):
        np.testing.assert_array_equal(store[row][0], local[row][0])
        assert store.encoded(row) == local.encoded(row)
        assert len(cached(tmp_path / "cache")) == 1
    np.testing.assert_array_equal(store.sizes[:], local.sizes[:])
    assert store.verify().ok


def test_a_small_cache_keeps_what_it_may(url: str, raw: Any, bucket: Bucket, tmp_path: Path) -> None:
    limit = 2 * largest_shard(raw) + 2000
    store = lds.open(url, cache=tmp_path / "cache", cache_bytes=limit)
    views = []
    for row in (0, 8, 16, 24, 32, 0):
        views.append(store[row][0])
        assert len(cached(tmp_path / "cache")) <= 2
        used = sum(file.stat().st_size for file in (tmp_path / "cache").rglob("*") if file.is_file())
        assert used <= limit
    for view, row in zip(views, (0, 8, 16, 24, 32, 0), strict=True):  # views of what was deleted stay readable
        np.testing.assert_array_equal(view, raw[row][0])
    assert (store.gather([0, 9]) == raw.gather([0, 9])).all()
    with pytest.raises(StoreError, match=r"this read needs 3 shards of .* at once, .* and cache_bytes is"):
        store.gather([0, 9, 17])
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda row: store.gather([row, (row + 8) % 40])[0], range(40)))
    for row in range(40):
        assert (found[row].numpy() == raw[row][0]).all()


def test_no_disk_space_is_held_by_what_was_deleted(url: str, raw: Any, tmp_path: Path) -> None:
    store = lds.open(url, cache=tmp_path / "cache", cache_bytes=largest_shard(raw) + 2000)
    for row in range(0, 40, 4):
        store.gather([row], fields=("label",))
    mapped = Path("/proc/self/maps").read_text()
    assert f"{tmp_path}/cache" not in mapped


def test_threads_and_processes_fetch_each_shard_once(url: str, raw: Any, bucket: Bucket, tmp_path: Path) -> None:
    bucket.faults.delay = 0.02
    code = (
        "import sys, largeds_native as lds; store = lds.open(sys.argv[1], cache=sys.argv[2]); "
        "print(int(store.gather(range(40)).long().sum()))"
    )
    command = [sys.executable, "-c", code, url, str(tmp_path / "cache")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    store = lds.open(url, cache=tmp_path / "cache")
    with ThreadPoolExecutor(4) as pool:
        sums = list(pool.map(lambda _: int(store.gather(range(40)).long().sum()), range(4)))
    expected = int(raw.gather(range(40)).long().sum())
    assert sums == [expected] * 4
    for process in processes:
        assert int(process.communicate(timeout=120)[0]) == expected
    assert len(bucket.faults.paths(match="images.npy")) == 5


def test_after_a_fork(url: str, raw: Any, tmp_path: Path) -> None:
    limit = 2 * largest_shard(raw) + 2000
    store = lds.open(url, cache=tmp_path / "cache", cache_bytes=limit)
    store.gather([0])
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()

    def read() -> None:
        results.put([int(store.gather([row]).long().sum()) for row in range(40)])

    with store.using([4]):  # the parent's lock stays
        child = context.Process(target=read)
        child.start()
        found = results.get()
        child.join(60)
        assert "shard-00004" in cached(tmp_path / "cache")
    assert found == [int(raw.gather([row]).long().sum()) for row in range(40)]


def test_killed_in_a_download(url: str, raw: Any, bucket: Bucket, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    bucket.faults.match, bucket.faults.delay = "label.npy", 60
    code = "import sys, largeds_native as lds; lds.open(sys.argv[1], cache=sys.argv[2])[0]"
    process = subprocess.Popen([sys.executable, "-c", code, url, str(cache)])
    deadline = time.monotonic() + 60
    while not list(cache.glob("*/.shard-00000.*.tmp/*/images.npy")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    bucket.faults.delay = 0
    assert not cached(cache)
    store = lds.open(url, cache=cache, cache_bytes=3 * largest_shard(raw))
    assert (store.gather([8]) == raw.gather([8])).all()  # making room removes what was left
    assert not list(cache.glob("*/*.tmp"))
    assert (store.gather([0]) == raw.gather([0])).all()
    assert store.verify().ok


def filled_cache(url: str, cache: Path) -> Path:
    """The folder of a store's shards, which no process holds; shard-00001 is damaged."""
    store = lds.open(url, cache=cache)
    store.gather(range(40))
    del store
    gc.collect()
    (folder,) = cache.iterdir()
    with open(folder / "shard-00001/images.npy", "r+b") as file:
        file.seek(4096)
        file.write(bytes(64))
    return folder


def test_what_a_power_failure_left_is_fetched_again(
    url: str, raw: Any, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing in a cache is synced. After a boot, each shard is checked once."""
    folder = filled_cache(url, tmp_path / "cache")
    os.truncate(folder / "shard-00002/label.npy", 0)
    (folder / "shard-00003/images.npy").unlink()
    for boot, fetched in (("another", ["shard-00001", "shard-00002", "shard-00003"]), ("another", []), ("third", [])):
        monkeypatch.setattr(cache_folder, "BOOT", boot)
        bucket.faults.forget()
        store = lds.open(url, cache=tmp_path / "cache")
        assert (store.gather(range(40)) == raw.gather(range(40))).all()
        assert store["label"][:].tolist() == list(range(40))
        found = sorted(path.split("/")[-2] for path in bucket.faults.paths(match="images.npy"))
        assert found == fetched
        assert {lock.read_text() for lock in folder.glob(".shard-*.lock")} == {boot}
        del store
        gc.collect()


def read_all(url: str, cache: Path, boot: str, ready: Any, results: Any) -> None:
    cache_folder.BOOT = boot
    store = lds.open(url, cache=cache)
    ready.wait()
    results.put(int(store.gather(range(40)).sum()))


def test_processes_that_find_a_damaged_shard_after_a_boot(url: str, raw: Any, bucket: Bucket, tmp_path: Path) -> None:
    """One of them checks it, and fetches it again; the others wait."""
    filled_cache(url, tmp_path / "cache")
    bucket.faults.forget()
    context = multiprocessing.get_context("fork")
    ready, results = context.Event(), context.Queue()
    arguments = (url, tmp_path / "cache", "another", ready, results)
    processes = [context.Process(target=read_all, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    ready.set()
    assert [results.get(timeout=60) for _ in processes] == [int(raw.gather(range(40)).sum())] * 4
    for process in processes:
        process.join()
    assert len(bucket.faults.paths(match="images.npy")) == 1


def test_a_hostile_server_sends_offsets_beyond_the_file(bucket: Bucket, tmp_path: Path) -> None:
    local = make_jpeg_store(tmp_path, 12)
    url = f"{bucket.url}/j.lds"
    lds.push(local, url, progress=False)
    name = f"{local.shards[0].path.name}/images.offsets.npy"
    data = bytearray(ObjectFolder(url).read(name))
    data[-8:] = (2**40).to_bytes(8, "little")
    ObjectFolder(url).write(name, bytes(data))
    with pytest.raises(StoreError, match="its rows are beyond its end"):
        lds.open(url, cache=tmp_path / "cache")[0]


def test_a_shard_without_a_hash_in_the_manifest_is_compared_row_by_row(
    url: str, raw: Any, bucket: Bucket, tmp_path: Path
) -> None:
    manifest = json.loads(ObjectFolder(url).read("manifest.json"))
    for shard in manifest["shards"]:
        shard.pop("hash")
    ObjectFolder(url).write("manifest.json", json.dumps(manifest).encode())
    assert (lds.open(url, cache=tmp_path / "good").gather(range(40)) == raw.gather(range(40))).all()
    data = bytearray(ObjectFolder(url).read("shard-00001/images.npy"))
    data[-1] ^= 1
    ObjectFolder(url).write("shard-00001/images.npy", bytes(data))
    with pytest.raises(StoreError, match="shard-00001"):
        lds.open(url, cache=tmp_path / "bad").gather(range(40))


def test_what_passes_does_no_harm(url: str, raw: Any, bucket: Bucket, tmp_path: Path) -> None:
    bucket.faults.fail, bucket.faults.cut, bucket.faults.cut_after = 2, 4, 100
    store = lds.open(url, cache=tmp_path / "cache")
    bucket.faults.fail = 3
    assert (store.gather(range(40)) == raw.gather(range(40))).all()


def test_another_store_in_the_same_place(url: str, raw: Any, tmp_path: Path) -> None:
    store = lds.open(url, cache=tmp_path / "cache")
    store.gather([0])
    for name in ("manifest.json", "shard-00001/images.npy", "shard-00003/label.npy"):
        ObjectFolder(url).write(name, b"another")
    changed = bytearray((raw.path / "shard-00002/images.npy").read_bytes())
    changed[-1] ^= 1
    ObjectFolder(url).write("shard-00002/images.npy", bytes(changed))
    assert (store.gather([0]) == raw.gather([0])).all()
    for row in (8, 16, 24):
        with pytest.raises(StoreError, match=r"is not the shard that .*a\.lds was replaced or damaged"):
            store.gather([row])
    assert cached(tmp_path / "cache") == {"shard-00000"}
    assert not list((tmp_path / "cache").glob("*/*.tmp"))
    with pytest.raises(StoreError, match=r"manifest.json is not JSON"):
        lds.open(url, cache=tmp_path / "cache")


def test_caches_that_do_not_work(url: str, raw: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ArgumentError, match=r"cache_bytes: the largest shard of .*a\.lds needs 9,[0-9]+ bytes, found 1"
    ):
        lds.open(url, cache=tmp_path / "cache", cache_bytes=1000)
    for bad in (0, -1, 1.5, True, "1GB"):
        with pytest.raises(ArgumentError, match="cache_bytes: expected a number of bytes"):
            lds.open(url, cache=tmp_path / "cache", cache_bytes=bad)
    with pytest.raises(ArgumentError, match="expected together with cache="):
        lds.open(url, cache_bytes=1 << 30)
    with pytest.raises(ArgumentError, match="expected a folder on a local disk"):
        lds.open(url, cache="s3://bucket/cache")
    with pytest.raises(ArgumentError, match="is on this machine; a cache is for URLs"):
        lds.open(raw.path, cache=tmp_path / "cache")
    with pytest.raises(TypeError, match="expected cache and cache_bytes, found label"):
        lds.open(url, label="x")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match=r"cache: .*/file/[0-9a-f]+ can't be used: Not a directory"):
        lds.open(url, cache=tmp_path / "file")
    mine = tmp_path / "full" / raw.identity
    mine.mkdir(parents=True)
    (mine / "thesis.tex").write_text("x")
    with pytest.raises(StoreError, match=r"holds something else \(thesis.tex\)"):
        lds.open(url, cache=tmp_path / "full")
    monkeypatch.setattr(Path, "touch", lambda *_: (_ for _ in ()).throw(OSError(errno.EROFS, "Read-only file system")))
    with pytest.raises(StorageError, match=r"cache: .* is not writable: Read-only"):
        lds.open(url, cache=tmp_path / "other")


def test_without_a_cache_what_is_small_can_be_read(url: str, raw: Any) -> None:
    store = lds.open(url)
    assert len(store) == 40
    assert store.samples.equals(raw.samples)
    with pytest.raises(ArgumentError, match=r"pass largeds_native.open\(url, cache=FOLDER\)"):
        store[0]


def test_a_full_disk(url: str, raw: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = lds.open(url, cache=tmp_path / "cache")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StorageError, match=r"the disk is full: .*images.npy needs 5,632 bytes"):
        store[0]
    monkeypatch.undo()
    assert not list((tmp_path / "cache").glob("*/*.tmp"))


@pytest.mark.parametrize("tiny_disk", ["64k"], indirect=True)
def test_a_disk_that_is_full(url: str, raw: Any, tiny_disk: Path) -> None:
    store = lds.open(url, cache=tiny_disk)
    with pytest.raises(StorageError, match=r"the disk is full|No space left"):
        store.gather(range(40))
    assert not list(tiny_disk.glob("*/*.tmp"))
    assert cached(tiny_disk)  # what was fetched before can be used
    del store
    gc.collect()


def test_nothing_is_there(bucket: Bucket, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"{bucket.url}/none is not a store: it has no manifest.json"):
        lds.open(f"{bucket.url}/none", cache=tmp_path)
    with pytest.raises(MissingObjectError, match="there is no bucket 'no-such-bucket'"):
        lds.open("s3://no-such-bucket/x", cache=tmp_path)


def test_no_secret_is_written(url: str, tmp_path: Path) -> None:
    store = lds.open(url, cache=tmp_path / "cache")
    store.gather(range(40))
    for file in (tmp_path / "cache").rglob("*"):
        assert not file.is_file() or b"very-secret" not in file.read_bytes()
    assert b"very-secret" not in pickle.dumps(store)


def test_a_file_url_is_a_local_store(raw: Any) -> None:
    assert lds.open(f"file://{raw.path}").identity == raw.identity


def test_joined_with_a_local_store(url: str, raw: Any, tmp_path: Path) -> None:
    other = make_labelled_store(tmp_path, 20, name="o.lds", shard_bytes=SHARD)
    remote = lds.open(url, cache=tmp_path / "cache", cache_bytes=2 * largest_shard(raw) + 2000)
    joined, expected = lds.concat([other, remote]), lds.concat([other, raw])
    rows = [0, 25, 59, 19]
    found = joined.gather([0, 25, 33], fields=("label",))
    wanted = expected.gather([0, 25, 33], fields=("label",))
    assert (found[0] == wanted[0]).all()
    assert (found[1] == wanted[1]).all()
    for row in rows:
        assert (joined[row][0] == expected[row][0]).all()
