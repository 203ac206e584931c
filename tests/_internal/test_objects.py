"""Object storage through fsspec."""

from __future__ import annotations

import asyncio
import multiprocessing
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from largeds_native._internal import retries
from largeds_native._internal.objects import ObjectFolder, ObjectState
from largeds_native._internal.retries import Cancelled, retried
from largeds_native._internal.urls import is_url, join, local_path, without_credentials
from largeds_native.errors import ArgumentError, MissingObjectError, StorageError
from tests.builders.s3 import Bucket

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.001)


# ---- URLs ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://b/k", True),
        ("memory://x", True),
        ("HTTP://h/x", True),
        ("file:///x", False),
        ("/x", False),
        ("a:b", False),
    ],
)
def test_what_is_a_url(text: str, expected: bool) -> None:
    assert is_url(text) is expected
    assert not is_url(Path(text))


def test_a_file_url_is_a_path() -> None:
    assert local_path("file:///data/a%20b") == "/data/a b"
    assert local_path("file://localhost/data") == "/data"
    assert local_path(Path("data")) == "data"
    with pytest.raises(ArgumentError, match="the host 'far'"):
        local_path("file://far/data")


def test_no_credentials_in_what_is_shown() -> None:
    text = "GET https://user:word@host/a/b?token=abc&x=1: failed"
    assert without_credentials(text) == "GET https://host/a/b failed"
    assert ObjectFolder("https://host/a?token=abc").url == "https://host/a"
    assert "abc" not in repr(ObjectFolder("https://host/a?token=abc").join("x"))


def test_names_are_joined_before_the_query() -> None:
    assert join("https://host/a?token=abc", "x/y") == "https://host/a/x/y?token=abc"
    assert join("s3://bucket/a/", "x") == "s3://bucket/a/x"
    assert join("s3://bucket/what?", "x") == "s3://bucket/what?/x"


def test_fsspec_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, largeds_native as lds; lds.pull; assert 'fsspec' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = pytest.importorskip("fsspec.registry")
    monkeypatch.delitem(registry._registry, "s3", raising=False)  # where an earlier test used it
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ArgumentError, match=r"s3://b/x: the package for s3:// .*pip install 'largeds-native\[s3\]'"):
        ObjectFolder("s3://b/x").read("y")
    with pytest.raises(ArgumentError, match="fsspec knows no nowhere://"):
        ObjectFolder("nowhere://b/x").read("y")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ArgumentError, match="fsspec, which is not installed"):
        ObjectFolder("gs://b/x").read("y")


# ---- trying again ----------------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("quick")
def test_what_is_tried_again() -> None:
    def failing(error: Exception, times: int) -> Any:
        calls = []

        def once() -> int:
            calls.append(1)
            if len(calls) <= times:
                raise error
            return len(calls)

        return once

    assert retried(failing(TimeoutError(), 3), "x") == 4
    assert retried(failing(OSError("odd"), 2), "x") == 3
    with pytest.raises(StorageError, match="x: failed 8 times, the last time by: ConnectionError: gone"):
        retried(failing(ConnectionError("gone"), 100), "x")
    with pytest.raises(MissingObjectError, match="x does not exist"):
        retried(failing(FileNotFoundError("x"), 1), "x")
    with pytest.raises(StorageError, match="x: permission denied"):
        retried(failing(PermissionError("no"), 1), "x")
    with pytest.raises(StorageError, match="x: ValueError: odd"):
        retried(failing(ValueError("odd"), 1), "x")
    stop = threading.Event()
    threading.Timer(0.05, stop.set).start()
    with pytest.raises(Cancelled):
        retried(failing(ConnectionError("gone"), 100), "x", stop)


# ---- memory:// -------------------------------------------------------------------------------------------------------
def test_memory() -> None:
    pytest.importorskip("fsspec")
    folder = ObjectFolder("memory://objects-test/a")
    folder.write("x/one", b"0123456789")
    assert folder.read("x/one") == b"0123456789"
    assert folder.read("x/one", 2, 5) == b"234"
    assert folder.read_exactly("x/one", 2, 2) == b""
    assert [state.key for state in folder.list()] == ["x/one"]
    assert folder.state("x/one").size == 10
    folder.delete("x/one")
    assert not folder.exists("x/one")


# ---- S3 --------------------------------------------------------------------------------------------------------------
@pytest.mark.s3
@pytest.mark.usefixtures("quick")
class TestS3:
    def test_objects(self, bucket: Bucket, tmp_path: Path) -> None:
        folder = ObjectFolder(f"{bucket.url}/data/")
        (tmp_path / "two").write_bytes(b"two" * 1000)
        folder.write("one", b"1")
        folder.write("deep/two", tmp_path / "two")
        states = list(folder.list())
        assert [(state.key, state.size) for state in states] == [("deep/two", 3000), ("one", 1)]
        assert states[1] == folder.state("one") == ObjectState("one", 1, "c4ca4238a0b923820dcc509a6f75849b")
        assert folder.join("deep").read("two", 2997, 4000) == b"two"
        assert folder.join("deep").read_exactly("two", 0, 3) == b"two"
        folder.write("one", b"2")  # nothing is kept of before
        assert folder.read("one") == b"2"
        assert folder.state("one").tag != states[1].tag
        assert list(ObjectFolder(f"{bucket.url}/none").list()) == []

    def test_what_is_not_there(self, bucket: Bucket) -> None:
        with pytest.raises(MissingObjectError, match=f"{bucket.url}/x does not exist"):
            ObjectFolder(bucket.url).read("x")
        with pytest.raises(FileNotFoundError):
            ObjectFolder(bucket.url).state("x")
        missing = ObjectFolder("s3://bucket-that-is-not-there/x")
        with pytest.raises(MissingObjectError, match="there is no bucket 'bucket-that-is-not-there'"):
            missing.read("y")
        with pytest.raises(MissingObjectError, match="there is no bucket"):
            list(missing.list())
        with pytest.raises(MissingObjectError, match="there is no bucket"):
            missing.write("y", b"")

    def test_what_passes_is_tried_again(self, bucket: Bucket) -> None:
        folder = ObjectFolder(bucket.url)
        folder.write("x", bytes(100_000))
        bucket.faults.fail = 3
        assert folder.read("x") == bytes(100_000)
        bucket.faults.cut = 3
        assert folder.read_exactly("x", 0, 90_000) == bytes(90_000)
        bucket.faults.cut = 2
        assert folder.read("x") == bytes(100_000)
        bucket.faults.fail, bucket.faults.status = 2, 500
        assert folder.state("x").size == 100_000
        bucket.faults.fail = 1000
        with pytest.raises(StorageError, match="failed 8 times") as raised:
            folder.read("x")
        assert "secret" not in str(raised.value)

    def test_no_permission_is_not_tried_again(self, bucket: Bucket) -> None:
        bucket.faults.fail, bucket.faults.status = 1000, 403
        with pytest.raises(StorageError, match="permission denied"):
            ObjectFolder(bucket.url).state("x")
        assert len(bucket.faults.requests) == 1

    def test_threads_a_fork_and_pickle(self, bucket: Bucket) -> None:
        folder = ObjectFolder(bucket.url)
        for i in range(20):
            folder.write(f"{i}", b"%d" % i)
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(folder.read, map(str, range(20)))) == [b"%d" % i for i in range(20)]
        assert pickle.loads(pickle.dumps(folder)).read("3") == b"3"
        context = multiprocessing.get_context("fork")
        results = context.SimpleQueue()
        child = context.Process(target=lambda: results.put(folder.read("7")))
        child.start()
        child.join(60)
        assert child.exitcode == 0
        assert results.get() == b"7"


# ---- past fsspec -----------------------------------------------------------------------------------------------------
def test_http_is_read_directly_unless_fsspec_has_more_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiohttp")
    from fsspec import config
    from fsspec.implementations.http import HTTPFileSystem
    from fsspec.registry import register_implementation

    assert ObjectFolder("http://host/x")._connection.direct() is not None
    assert ObjectFolder("memory://x")._connection.direct() is None
    monkeypatch.setitem(config.conf, "http", {"client_kwargs": {"headers": {"Authorization": "secret"}}})
    assert ObjectFolder("http://host/x")._connection.direct() is None
    monkeypatch.delitem(config.conf, "http")

    class Other(HTTPFileSystem):  # type: ignore[misc]
        pass

    register_implementation("http", Other, clobber=True)
    try:
        assert ObjectFolder("http://host/x")._connection.direct() is None
    finally:
        register_implementation("http", HTTPFileSystem, clobber=True)


@pytest.mark.s3
def test_objects_of_s3_are_read_directly(bucket: Bucket) -> None:
    folder = ObjectFolder(bucket.url)
    folder.write("a b+%", b"x" * 100_000)
    bucket.faults.forget()
    assert folder.read("a b+%") == b"x" * 100_000
    assert b"".join(map(bytes, folder.pieces("a b+%", 10, 70_000))) == b"x" * 69_990
    signed = bucket.faults.paths()
    assert len(signed) == 2
    assert all("X-Amz-Signature=" in path and "X-Amz-Expires=" in path for path in signed)
    with pytest.raises(MissingObjectError):
        folder.read("none")


@pytest.mark.s3
def test_in_a_thread_with_a_loop_fsspec_reads(bucket: Bucket) -> None:
    """As in a notebook."""
    folder = ObjectFolder(bucket.url)
    folder.write("a", b"x")

    async def main() -> bytes:
        return folder.read("a")

    for _ in range(4):
        assert asyncio.run(main()) == b"x"
    assert folder.read("a") == b"x"
    assert "X-Amz-Signature=" in bucket.faults.paths()[-1]


@pytest.mark.s3
def test_a_child_leaves_its_parents_loop_alone(bucket: Bucket) -> None:
    folder = ObjectFolder(bucket.url)
    folder.write("a", b"x")
    assert folder.read("a") == b"x"

    def child(connection: Any) -> None:
        connection.send(folder.read("a"))

    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=child, args=(theirs,))
    process.start()
    assert ours.recv() == b"x"
    process.join()
    signer = folder._connection.direct()._sign  # type: ignore[union-attr]
    loop: Any = signer._loop  # type: ignore[attr-defined]
    started = time.perf_counter()
    loop.run_until_complete(loop.run_in_executor(None, time.sleep, 0.01))
    assert time.perf_counter() - started < 4  # else only a timer would have ended it
    assert folder.read("a") == b"x"
