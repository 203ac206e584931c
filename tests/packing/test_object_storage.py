"""Packing images that lie in object storage."""

from __future__ import annotations

import functools
import http.server
import itertools
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import largeds_native as lds
from largeds_native import packing, sources
from largeds_native._internal import retries
from largeds_native._internal.object_file import ObjectFile
from largeds_native._internal.objects import ObjectFolder
from largeds_native.errors import ArgumentError, MissingObjectError, PackError, StorageError, StoreError
from tests.builders.masks import make_mask_tree
from tests.builders.s3 import Bucket
from tests.builders.trees import make_tree
from tests.packing.test_pack import files_of
from tests.packing.test_parts import JPEG, ROOT, SMALL, pack_apart, parquet_of, table_of, tar_of

pytestmark = [
    pytest.mark.s3,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(retries, "LONGEST_PAUSE", 0.01)


def upload(folder: Path, url: str) -> None:
    target = ObjectFolder(url)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            target.write(str(path.relative_to(folder)), path)


def without_origin(store: Any) -> dict[str, bytes]:
    """The files of a store, without the numbers of the plan, which has the names of its source."""
    return {name: data for name, data in files_of(store.path).items() if name.endswith((".npy", ".bin", ".parquet"))}


@pytest.fixture
def tree(tmp_path: Path) -> tuple[Path, list[Path]]:
    """With folders in folders, other files, and names that sort otherwise as bytes."""
    paths = make_tree(tmp_path / "tree", 3, 6)
    for name in ("class1/deep/z.png", "class1/\U0001f600.png", "class1/é b+c.png", "class1-x/a.png", "left.png"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(exist_ok=True)
        shutil.copy(paths[0], path)
        paths.append(path)
    (tmp_path / "tree/class2/notes.txt").write_text("no image")
    (tmp_path / "tree/class2/moving.gif").write_bytes(b"GIF")
    return tmp_path / "tree", paths


@pytest.mark.parametrize("options", [SMALL, JPEG, SMALL | {"shuffle": 1}], ids=["raw", "jpeg", "shuffled"])
def test_a_folder(tree: Any, tmp_path: Path, bucket: Bucket, options: dict[str, Any]) -> None:
    root, _ = tree
    upload(root, f"{bucket.url}/data/train")
    local = lds.pack(root, tmp_path / "local", progress=False, **options)
    bucket.faults.forget()
    store = lds.pack(f"{bucket.url}/data/train/", tmp_path / "remote", progress=False, **options)
    assert without_origin(store) == without_origin(local)
    assert store.classes == local.classes
    report = store.report
    assert report is not None
    assert report.notes == local.report.notes  # type: ignore[union-attr]
    assert report.root == f"{bucket.url}/data/train"
    assert report.source_mb_per_second > 0
    gets = [path.split("?")[0] for path in bucket.faults.paths("GET")]
    images = [path for path in gets if path.endswith((".png", ".jpg", ".webp"))]
    assert len(images) == len(set(images)) == len(store)  # each once
    again = lds.pack(f"{bucket.url}/data/train", tmp_path / "remote", progress=False, **options)
    assert again.identity == store.identity
    assert packing.verify_sources(store).ok


def test_parts(tree: Any, tmp_path: Path, bucket: Bucket) -> None:
    root, _ = tree
    upload(root, f"{bucket.url}/train")
    local = lds.pack(root, tmp_path / "local", progress=False, **SMALL)
    assert without_origin(pack_apart(f"{bucket.url}/train", tmp_path / "apart", **SMALL)) == without_origin(local)


def test_tables(tmp_path: Path, bucket: Bucket) -> None:
    paths = make_tree(tmp_path / "tree", 2, 6)
    local = lds.pack(table_of(paths, tmp_path / "table.csv"), tmp_path / "local", progress=False, **SMALL)
    parquet_of(paths, tmp_path / "inside.parquet")
    upload(tmp_path / "tree", f"{bucket.url}/data/tree")
    ObjectFolder(f"{bucket.url}/data").write("table.csv", tmp_path / "table.csv")
    ObjectFolder(f"{bucket.url}/data").write("inside.parquet", tmp_path / "inside.parquet")
    rows = [f"{bucket.url}/data/{path.relative_to(tmp_path)},{i % 2}" for i, path in enumerate(paths)]
    (tmp_path / "urls.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    for number, source in enumerate(
        (
            f"{bucket.url}/data/table.csv",  # names below its own folder
            tmp_path / "urls.csv",  # a file here that lists URLs
            sources.table(tmp_path / "table.csv", root=f"{bucket.url}/data"),
        )
    ):
        store = lds.pack(source, tmp_path / str(number), progress=False, **SMALL)
        assert np.array_equal(store.images[:], local.images[:])
        assert np.array_equal(store["label"], local["label"])
        assert lds.pack(source, tmp_path / str(number), progress=False, **SMALL).identity == store.identity
    inside = lds.pack(f"{bucket.url}/data/inside.parquet", tmp_path / "inside", progress=False, **SMALL)
    assert np.array_equal(inside.images[:], local.images[:])
    parted = pack_apart(f"{bucket.url}/data/inside.parquet", tmp_path / "parted", **SMALL)
    assert parted.identity == inside.identity


def test_tar_shards(tmp_path: Path, bucket: Bucket) -> None:
    paths = make_tree(tmp_path / "tree", 2, 6)
    for i, half in enumerate((paths[:7], paths[7:])):
        tar_of(half, tmp_path / f"{i}.tar")
        ObjectFolder(bucket.url).write(f"{i}.tar", tmp_path / f"{i}.tar")
    local = lds.pack([tmp_path / "0.tar", tmp_path / "1.tar"], tmp_path / "local", progress=False, **SMALL)
    urls = [f"{bucket.url}/0.tar", f"{bucket.url}/1.tar"]
    store = lds.pack(urls, tmp_path / "remote", progress=False, **SMALL)
    assert files_of(store.path) == files_of(local.path)  # names in a tar are the same everywhere
    one = lds.pack(urls[1], tmp_path / "one", progress=False, **SMALL)
    assert len(one) == 5
    cut = (tmp_path / "0.tar").read_bytes()[:3000]
    ObjectFolder(bucket.url).write("cut.tar", cut)
    with pytest.raises(ArgumentError, match=r"cut\.tar is (cut off|not an)"):
        sources.tar(f"{bucket.url}/cut.tar")


def test_a_list_of_images_and_masks(tmp_path: Path, bucket: Bucket) -> None:
    tree = make_mask_tree(tmp_path, 5)
    upload(tree.images, f"{bucket.url}/images")
    upload(tree.masks, f"{bucket.url}/masks")
    for options in (SMALL, JPEG):
        codec = str(options.get("codec"))
        local = lds.pack(tree.images, tmp_path / f"local-{codec}", masks=tree.masks, progress=False, **options)
        far: Any = {"masks": f"{bucket.url}/masks"}
        store = lds.pack(f"{bucket.url}/images", tmp_path / f"remote-{codec}", progress=False, **options, **far)
        assert without_origin(store) == without_origin(local)
        mixed = lds.pack(tree.images, tmp_path / f"mixed-{codec}", progress=False, **options, **far)
        assert without_origin(mixed) == without_origin(local)
    names = sorted(str(path.relative_to(tree.images)) for path in tree.images.rglob("*.jpg"))
    listed = lds.pack([f"{bucket.url}/images/{name}" for name in names], tmp_path / "list", progress=False, **SMALL)
    assert np.array_equal(listed.images[:], lds.open(tmp_path / "local-None").images[:])


def test_faults(tmp_path: Path, bucket: Bucket) -> None:
    make_tree(tmp_path / "tree", 2, 6)
    upload(tmp_path / "tree", f"{bucket.url}/train")
    local = lds.pack(tmp_path / "tree", tmp_path / "local", progress=False, **SMALL)
    bucket.faults.match, bucket.faults.fail, bucket.faults.cut, bucket.faults.cut_after = "class", 7, 5, 100
    store = lds.pack(f"{bucket.url}/train", tmp_path / "remote", progress=False, **SMALL)
    assert (bucket.faults.fail, bucket.faults.cut) == (0, 0)
    assert without_origin(store) == without_origin(local)


def test_an_object_that_vanished_is_a_failed_sample(tmp_path: Path, bucket: Bucket) -> None:
    make_tree(tmp_path / "tree", 2, 6)
    upload(tmp_path / "tree", f"{bucket.url}/train")
    plan = packing.plan(f"{bucket.url}/train", tmp_path / "out", max_failures=1, **SMALL)
    ObjectFolder(f"{bucket.url}/train").delete("class1/0002.webp")
    assert plan.shards is not None
    for number in range(plan.shards):
        packing.pack_shard(plan, number)
    store = packing.commit(plan)
    assert store.report is not None
    (failure,) = store.report.failures
    assert (failure.source, failure.reason) == ("class1/0002.webp", "missing")
    assert failure.error == "the object does not exist"


def test_no_permission_stops_the_pack(tmp_path: Path, bucket: Bucket) -> None:
    make_tree(tmp_path / "tree", 2, 6)
    upload(tmp_path / "tree", f"{bucket.url}/train")
    bucket.faults.match, bucket.faults.fail, bucket.faults.status = "class1/0001.jpg", 1000, 403
    with pytest.raises(StorageError, match=r"train/class1/0001\.jpg: permission denied") as found:
        lds.pack(f"{bucket.url}/train", tmp_path / "out", progress=False, **SMALL)
    assert "very-secret" not in str(found.value)
    bucket.faults.fail = 0
    assert len(lds.pack(f"{bucket.url}/train", tmp_path / "out", progress=False, **SMALL)) == 12  # it goes on


def test_another_object_under_the_same_name(tmp_path: Path, bucket: Bucket) -> None:
    """Its size or etag differs, though its name does not."""
    paths = make_tree(tmp_path / "tree", 2, 6)
    upload(tmp_path / "tree", f"{bucket.url}/train")
    plan = packing.plan(f"{bucket.url}/train", tmp_path / "out", **SMALL)
    packing.pack_shard(plan, 0)
    ObjectFolder(f"{bucket.url}/train").write("class0/0001.jpg", paths[4])
    with pytest.raises(PackError, match=r"the files of the folder s3://.*/train are not those that were packed"):
        lds.pack(f"{bucket.url}/train", tmp_path / "out", progress=False, **SMALL)


@pytest.mark.parametrize("name", ["", "/nothing"])
def test_nothing_there(tmp_path: Path, bucket: Bucket, name: str) -> None:
    with pytest.raises((MissingObjectError, PackError), match=r"does not exist|there is no|has no image"):
        lds.pack(bucket.url + name, tmp_path / "out", progress=False, **SMALL)
    assert not (tmp_path / "out").exists()


def test_what_can_not_be_reached(tmp_path: Path, bucket: Bucket) -> None:
    with pytest.raises(MissingObjectError, match="there is no bucket 'no-such-bucket'"):
        lds.pack("s3://no-such-bucket/train", tmp_path / "out", progress=False, **SMALL)
    with pytest.raises(ArgumentError, match=r"gs://.*pip install gcsfs"):
        lds.pack("gs://bucket/train", tmp_path / "out", progress=False, **SMALL)
    with pytest.raises(ArgumentError, match="fsspec knows no nonsense://"):
        lds.pack("nonsense://bucket/train", tmp_path / "out", progress=False, **SMALL)


def test_credentials_are_written_nowhere(tmp_path: Path) -> None:
    import fsspec

    make_tree(tmp_path / "tree", 2, 3)
    memory = fsspec.filesystem("memory")
    for path in (tmp_path / "tree").rglob("*.*"):
        memory.pipe_file(f"/secrets/train/{path.relative_to(tmp_path / 'tree')}", path.read_bytes())
    store = lds.pack("memory://secrets/train", tmp_path / "out", progress=False, **SMALL)
    assert len(store) == 6
    shown = sources.folder("memory://secrets/train")
    assert shown.root == "memory://secrets/train"


def test_a_file_of_an_object_reads_as_any_file(tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.random.default_rng(0).integers(0, 256, 10_000, np.uint8).tobytes()
    ObjectFolder(bucket.url).write("data", data)
    monkeypatch.setattr("largeds_native._internal.object_file.BLOCK", 1000)
    file = ObjectFile(f"{bucket.url}/data")
    random = np.random.default_rng(1)
    for _ in range(60):
        at, count = int(random.integers(0, 10_100)), int(random.integers(0, 2500))
        assert file.seek(at) == at
        assert file.read(count) == data[at : at + count]
        assert file.tell() == max(at, min(at + count, len(data))) or at > len(data)
    assert file.seek(-10, 2) == 9990
    assert file.read() == data[-10:]


def test_a_large_archive_is_indexed_by_few_requests(tmp_path: Path, bucket: Bucket) -> None:
    paths = make_tree(tmp_path / "tree", 1, 60)
    tar_of(paths, tmp_path / "a.tar")
    ObjectFolder(bucket.url).write("a.tar", tmp_path / "a.tar")
    bucket.faults.forget()
    source = sources.tar(f"{bucket.url}/a.tar")
    assert source.count == 60
    assert len(bucket.faults.paths("GET", "a.tar")) <= 4


def test_requests_run_ahead(tmp_path: Path, bucket: Bucket) -> None:
    make_tree(tmp_path / "tree", 1, 40)
    upload(tmp_path / "tree", f"{bucket.url}/train")
    running, most = itertools.count(), [0]
    active: set[int] = set()

    def before(method: str, path: str) -> None:
        import time

        mine = next(running)
        active.add(mine)
        most[0] = max(most[0], len(active))
        time.sleep(0.05)
        active.discard(mine)

    bucket.faults.before = before
    lds.pack(f"{bucket.url}/train", tmp_path / "out", progress=False, resize=16, crop=12)
    assert most[0] > 8


def test_the_command(tmp_path: Path, bucket: Bucket, capsys: pytest.CaptureFixture[str]) -> None:
    from largeds_native.cli import main

    make_tree(tmp_path / "tree", 2, 3)
    upload(tmp_path / "tree", f"{bucket.url}/train")
    with pytest.raises(SystemExit) as end:
        main(["pack", f"{bucket.url}/train", str(tmp_path / "out.lds"), "--resize", "16", "--crop", "12"])
    out, err = capsys.readouterr()
    assert (end.value.code or 0, err) == (0, "")
    assert f"source: folder {bucket.url}/train" in out


# ---- stores in object storage --------------------------------------------------------------------------------------
def objects_of(url: str) -> dict[str, bytes]:
    """All that belongs to a store's identity."""
    folder = ObjectFolder(url)
    return {state.key: folder.read(state.key) for state in folder.list() if state.key != "report.json"}


@pytest.mark.parametrize("options", [SMALL, JPEG], ids=["raw", "jpeg"])
def test_a_store_is_written_to_object_storage(tmp_path: Path, bucket: Bucket, options: dict[str, Any]) -> None:
    paths = make_tree(tmp_path / "tree", 3, 6)
    paths[4].write_bytes(b"rotten")
    options = {**options, "max_failures": 1, "progress": False}
    local = lds.pack(tmp_path / "tree", tmp_path / "local", **options)
    url = f"{bucket.url}/deep/a.lds"
    store = lds.pack(tmp_path / "tree", url, **options)
    assert objects_of(url) == files_of(local.path)
    puts = [path for method, path in bucket.faults.requests if method == "PUT"]
    assert puts[-1].endswith("/manifest.json")
    assert store.identity == local.identity
    assert store.report is not None
    assert store.report.failed == local.report.failed  # type: ignore[union-attr]
    opened = lds.open(url, cache=tmp_path / "cache")
    for row in range(len(local)):
        assert np.array_equal(opened.images[row], local.images[row])
    bucket.faults.forget()
    assert lds.pack(tmp_path / "tree", url, **options).identity == local.identity  # it is there
    assert not [path for method, path in bucket.faults.requests if method in ("PUT", "DELETE")]


def test_parts_in_object_storage(tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each on a machine of its own, which shares nothing but the bucket."""
    make_tree(tmp_path / "tree", 3, 6)
    local = lds.pack(tmp_path / "tree", tmp_path / "local", progress=False, **SMALL)
    url = f"{bucket.url}/a.lds"

    def machine(number: int) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / f"machine{number}"))
        (tmp_path / f"machine{number}").mkdir(exist_ok=True)

    for number in (3, 0, 2):
        machine(number)
        plan = packing.plan(tmp_path / "tree", url, **SMALL)
        packing.pack_shard(plan, number)
        assert not list((tmp_path / f"machine{number}").rglob("images.npy"))  # what is large is dropped
    machine(4)
    plan = packing.plan(tmp_path / "tree", url, **SMALL)
    with pytest.raises(PackError, match=r"1 of the 4 shards are not packed yet in s3://.*/a\.lds: 1\. "):
        packing.commit(plan)
    with pytest.raises(MissingObjectError):
        ObjectFolder(url).read("manifest.json")
    with pytest.raises(PackError, match=r"s3://\S*/a\.lds holds an unfinished pack of another job \(crop was"):
        packing.plan(tmp_path / "tree", url, **{**SMALL, "crop": 8})
    store = lds.pack(tmp_path / "tree", url, progress=False, **SMALL)
    assert store.report is not None
    assert store.report.resumed_shards == 3
    assert objects_of(url) == files_of(local.path)
    del plan
    assert not list((tmp_path / "machine4").iterdir())


def test_an_upload_that_failed_goes_on(tmp_path: Path, bucket: Bucket) -> None:
    make_tree(tmp_path / "tree", 3, 6)
    local = lds.pack(tmp_path / "tree", tmp_path / "local", progress=False, **SMALL)
    url = f"{bucket.url}/a.lds"
    bucket.faults.match, bucket.faults.fail, bucket.faults.status = "shard-00002/images.npy", 1000, 403
    with pytest.raises(StorageError, match=r"s3://.*shard-00002/images\.npy: permission denied"):
        lds.pack(tmp_path / "tree", url, progress=False, **SMALL)
    assert "shard-00002/shard.json" not in objects_of(url)
    bucket.faults.fail, bucket.faults.status = 3, 503
    store = lds.pack(tmp_path / "tree", url, progress=False, **SMALL)
    assert store.report is not None
    assert store.report.resumed_shards < 4  # packs begin at any shard
    assert objects_of(url) == files_of(local.path)


def test_a_shard_that_is_not_whole_in_the_bucket(tmp_path: Path, bucket: Bucket) -> None:
    make_tree(tmp_path / "tree", 2, 5)
    url = f"{bucket.url}/a.lds"
    plan = packing.plan(tmp_path / "tree", url, **SMALL)
    for number in range(2):
        packing.pack_shard(plan, number)
    ObjectFolder(url).write("shard-00001/images.npy", b"cut")
    with pytest.raises(StoreError, match=r"shard-00001/images\.npy: expected [\d,]+ bytes, and it has 3 bytes"):
        packing.commit(plan)
    ObjectFolder(url).delete("shard-00001/images.npy")
    with pytest.raises(StoreError, match="and it is missing"):
        packing.commit(plan)
    again = lds.pack(tmp_path / "tree", url, progress=False, resume=False, **SMALL)
    assert len(again) == 10


def test_what_is_at_the_url_already(tmp_path: Path, bucket: Bucket) -> None:
    make_tree(tmp_path / "tree", 2, 5)
    ObjectFolder(bucket.url).write("folder/notes.txt", b"mine")
    with pytest.raises(PackError, match=r"s3://.*/folder exists and is not a store \(it holds 'notes\.txt'\)"):
        lds.pack(tmp_path / "tree", f"{bucket.url}/folder", progress=False, **SMALL)
    lds.pack(tmp_path / "tree", f"{bucket.url}/a.lds", progress=False, **SMALL)
    with pytest.raises(PackError, match=r"^s3://\S*/a\.lds holds a finished store of another job"):
        lds.pack(tmp_path / "tree", f"{bucket.url}/a.lds", progress=False, **{**SMALL, "crop": 8})
    with pytest.raises(PackError, match="resume=False does not throw away"):
        lds.pack(tmp_path / "tree", f"{bucket.url}/a.lds", progress=False, resume=False, **SMALL)
    with pytest.raises(MissingObjectError, match="there is no bucket 'no-such-bucket'"):
        lds.pack(tmp_path / "tree", "s3://no-such-bucket/a.lds", progress=False, **SMALL)


@pytest.mark.parametrize("together", [True, False])
def test_processes_that_pack_into_one_bucket(tmp_path: Path, bucket: Bucket, together: bool) -> None:
    """At once, each returns the store; after one has finished it, nothing is uploaded again."""
    make_tree(tmp_path / "tree", 2, 10)
    options = SMALL | {"shard_bytes": 2 * 3 * 12 * 12}
    local = lds.pack(tmp_path / "tree", tmp_path / "local", progress=False, **options)
    url = f"{bucket.url}/a.lds"
    late = packing.plan(tmp_path / "tree", url, **options)
    if together:
        program = (
            "import largeds_native as lds\n"
            f"store = lds.pack({str(tmp_path / 'tree')!r}, {url!r}, **{options!r}, threads=1, progress=False)\n"
            "print(store.identity)\n"
        )
        running = [
            subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for _ in range(3)
        ]
        told = [process.communicate(timeout=200) for process in running]
        assert {out.decode() for out, _ in told} == {f"{local.identity}\n"}, [err.decode() for _, err in told]
    else:
        lds.pack(tmp_path / "tree", url, progress=False, **options)
    bucket.faults.forget()
    assert packing.pack_shard(late, 3).rows == 2
    assert packing.commit(late).identity == local.identity
    assert not [path for method, path in bucket.faults.requests if method == "PUT"]
    assert objects_of(url) == files_of(local.path)


def test_a_store_does_not_lie_among_its_images(tmp_path: Path, bucket: Bucket) -> None:
    make_tree(tmp_path / "tree", 2, 3)
    upload(tmp_path / "tree", f"{bucket.url}/data/train")
    for out in ("data/train/out.lds", "data/train", "data"):
        with pytest.raises(ArgumentError, match="lie in each other"):
            lds.pack(f"{bucket.url}/data/train", f"{bucket.url}/{out}", progress=False, **SMALL)
    assert len(lds.pack(f"{bucket.url}/data/train", f"{bucket.url}/data/train.lds", progress=False, **SMALL)) == 6


def test_odd_names_and_schemes(tmp_path: Path, bucket: Bucket) -> None:
    paths = make_tree(tmp_path / "tree", 1, 1)
    names = ["what?.png", "a#b.png", "100%25.png", "a+b c.png", "[1]*.png", "q?x=1&y.png"]
    for name in names:
        ObjectFolder(f"{bucket.url}/odd/a").write(name, paths[0])
    store = lds.pack(f"S3{bucket.url[2:]}/odd", tmp_path / "out", progress=False, max_failures=0, **SMALL)
    assert sorted(store.samples["source"].to_pylist()) == sorted(f"a/{name}" for name in names)
    rows = "\n".join(f"{bucket.url}/odd/a/{name},1" for name in names)
    (tmp_path / "urls.csv").write_text(f"path,label\n{rows}\n")
    assert len(lds.pack(tmp_path / "urls.csv", tmp_path / "table", progress=False, max_failures=0, **SMALL)) == 6
    with pytest.raises(ArgumentError, match="chained URLs are not read"):
        lds.pack(f"simplecache::{bucket.url}/odd", tmp_path / "chained", progress=False, **SMALL)


def test_files_of_this_machine_by_url(tmp_path: Path) -> None:
    paths = make_tree(tmp_path / "tree", 2, 3)
    url = (tmp_path / "tree").as_uri()
    assert len(lds.pack(url, tmp_path / "folder", progress=False, **SMALL)) == 6
    table = table_of(paths, tmp_path / "table.csv")
    assert len(lds.pack(table.as_uri(), tmp_path / "table", progress=False, **SMALL)) == 6
    for scheme in ("file", "local"):
        (tmp_path / "hostile.csv").write_text(f"path,label\n{scheme}://{paths[0]},1\n")
        with pytest.raises(ArgumentError, match="leaves the folder of images"):
            sources.table(tmp_path / "hostile.csv")


def test_credentials_of_http_are_shown_nowhere(tmp_path: Path) -> None:
    """Signed URLs, whose query is a key."""
    pytest.importorskip("aiohttp")
    make_tree(tmp_path / "tree", 1, 2)
    tar_of(sorted((tmp_path / "tree").rglob("*.*")), tmp_path / "tree/a.tar")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path / "tree"))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        host = f"127.0.0.1:{server.server_address[1]}"
        cells = [f"http://us:sEc@ReT@{host}/class0/{name}?sig=tOkEn" for name in ("0000.png", "0001.jpg", "none.png")]
        (tmp_path / "urls.csv").write_text("\n".join(["path,label", *(f"{cell},1" for cell in cells)]) + "\n")
        store = lds.pack(tmp_path / "urls.csv", tmp_path / "out", progress=False, max_failures=1, **SMALL)
        assert store.report is not None
        assert store.report.failed == {"missing": 1}
        with pytest.raises(StorageError, match="whole objects only") as found:
            sources.tar(f"http://us:sEcReT@{host}/a.tar?sig=tOkEn")
        told = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
        told += str(found.value).encode() + "".join(store.samples["source"].to_pylist()).encode()
        assert not [secret for secret in (b"sEc", b"ReT", b"tOkEn") if secret in told]
    finally:
        server.shutdown()
        server.server_close()
