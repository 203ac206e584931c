"""Copies of stores to object storage and back."""

from __future__ import annotations

import json
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import largeds_native as lds
from largeds_native._internal import retries
from largeds_native._internal.objects import ObjectFolder
from largeds_native.errors import ArgumentError, MissingObjectError, StorageError, StoreError
from largeds_native.store.remote.compare import s3_tag
from tests.builders.masks import make_mask_tree
from tests.builders.s3 import Bucket
from tests.builders.stores import largest_shard, make_jpeg_store, make_labelled_store

pytestmark = [
    pytest.mark.s3,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.001)


def raw_store(folder: Path, **options: Any) -> Any:
    return make_labelled_store(folder, 20, shard_bytes=8 * 3 * 8 * 8, **options)


def jpeg_store(folder: Path) -> Any:
    return make_jpeg_store(folder, 12, shard_bytes=1 << 19)


def masked_store(folder: Path, codec: str) -> Any:
    tree = make_mask_tree(folder, each=8)
    size: dict[str, Any] = {"resize": 32, "crop": 24} if codec == "raw" else {"resize": None}
    options = {"codec": codec, "masks": tree.masks, "shard_bytes": 10_000 if codec == "raw" else 1 << 19, **size}
    return lds.pack(tree.images, folder / "m.lds", progress=False, **options)


def tree_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    "make", [raw_store, jpeg_store, partial(masked_store, codec="raw"), partial(masked_store, codec="jpeg")]
)
def test_there_and_back(make: Any, tmp_path: Path, bucket: Bucket) -> None:
    store = make(tmp_path)
    url = f"{bucket.url}/deep/a.lds"
    seen: list[tuple[int, int]] = []
    lds.push(store, url, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] > 0
    puts = [path for method, path in bucket.faults.requests if method == "PUT"]
    assert puts[-1].split("?")[0].endswith("/manifest.json")
    pulled = lds.pull(url, tmp_path / "copy.lds", progress=False)
    assert tree_of(tmp_path / "copy.lds") == tree_of(store.path)
    assert pulled.identity == store.identity
    assert pulled.verify().ok
    fields = pulled.fields
    remote = lds.open(url, cache=tmp_path / "cache", cache_bytes=largest_shard(store) * 7 // 2)
    kwargs: dict[str, Any] = {"order": "block", "block": "shard", "augment": lds.Augment(resized_crop=20)}
    ours, expected = (lds.Loader(one, 3, fields=fields, **kwargs) for one in (remote, store))
    for one, other in zip(ours, expected, strict=True):
        assert all((a == b).all() for a, b in zip(one, other, strict=True))
    assert len(list((tmp_path / "cache").glob("*/shard-*"))) <= 3
    assert (remote["label"][:] == store["label"][:]).all()
    if "mask" in fields:
        assert (remote["mask"][0] == store["mask"][0]).all()
    with pytest.raises(ArgumentError, match="is in object storage, and an export needs a local copy"):
        remote.to_hdf5(tmp_path / "x.h5")
    with pytest.raises(ArgumentError, match="is in object storage, and a pack of it needs a local copy"):
        lds.pack(remote, tmp_path / "x.lds", progress=False)
    with pytest.raises(ArgumentError, match="is in object storage already"):
        lds.push(remote, f"{bucket.url}/b.lds")
    with pytest.raises(ArgumentError, match=rf"store: {bucket.url}/.* is in object storage already"):
        lds.push(remote.location, f"{bucket.url}/b.lds")


def test_a_push_goes_on_where_it_was_cut_off(tmp_path: Path, bucket: Bucket) -> None:
    store = raw_store(tmp_path)
    url = f"{bucket.url}/a.lds"
    bucket.faults.match, bucket.faults.fail, bucket.faults.status = "manifest.json", 1000, 403
    with pytest.raises(StorageError, match="permission denied"):
        lds.push(store.path, url, progress=False)
    bucket.faults.match, bucket.faults.fail = "", 0
    assert "manifest.json" not in {state.key for state in ObjectFolder(url).list()}
    lds.push(store.path, url, progress=False)
    ObjectFolder(url).write("shard-00001/label.npy", b"other bytes")
    bucket.faults.forget()
    lds.push(store.path, url, progress=False)
    puts = [path.split("?")[0] for method, path in bucket.faults.requests if method == "PUT"]
    assert [path.split("a.lds/")[1] for path in puts] == ["shard-00001/label.npy", "report.json", "manifest.json"]
    assert tree_of(lds.pull(url, tmp_path / "b.lds", progress=False).path) == tree_of(store.path)


def test_a_pull_goes_on_where_it_was_cut_off(tmp_path: Path, bucket: Bucket) -> None:
    store = raw_store(tmp_path)
    url, target = f"{bucket.url}/a.lds", tmp_path / "b.lds"
    lds.push(store, url, progress=False)
    bucket.faults.match, bucket.faults.fail, bucket.faults.status = "shard-00002/images.npy", 1000, 403
    with pytest.raises(StorageError, match="permission denied"):
        lds.pull(url, target, progress=False)
    assert not (target / "manifest.json").exists()
    assert (target / "shard-00000").exists()
    with pytest.raises(StoreError, match="is not a store"):
        lds.open(target)
    bucket.faults.match, bucket.faults.fail = "", 0
    bucket.faults.forget()
    lds.pull(url, target, progress=False)
    assert not bucket.faults.paths(match="shard-00000/")
    assert tree_of(target) == tree_of(store.path)
    # and what was damaged later is mended
    images = target / "shard-00001" / "images.npy"
    damaged = bytearray(images.read_bytes())
    damaged[-1] ^= 1
    images.write_bytes(damaged)
    lds.pull(url, target, progress=False)
    assert tree_of(target) == tree_of(store.path)


def test_errors_that_pass_are_tried_again(tmp_path: Path, bucket: Bucket) -> None:
    store = raw_store(tmp_path)
    url = f"{bucket.url}/a.lds"
    bucket.faults.fail = 5
    lds.push(store, url, progress=False)
    bucket.faults.fail, bucket.faults.cut, bucket.faults.cut_after = 2, 4, 100
    assert tree_of(lds.pull(url, tmp_path / "b.lds", progress=False).path) == tree_of(store.path)


def test_large_objects_are_sent_in_parts(tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    from largeds_native._internal import objects
    from largeds_native.store.remote import compare, download

    for module in (objects, compare):
        monkeypatch.setattr(module, "PART_BYTES", 5 << 20)
    monkeypatch.setattr(download, "RANGE_BYTES", 1 << 20)
    store = make_labelled_store(tmp_path, 60, 256)
    url = f"{bucket.url}/a.lds"
    lds.push(store, url, progress=False)
    images = store.path / "shard-00000/images.npy"
    assert ObjectFolder(url).state("shard-00000/images.npy").tag == s3_tag(images, parts=True)
    bucket.faults.forget()
    lds.push(store, url, progress=False)
    assert not [path for method, path in bucket.faults.requests if method in ("PUT", "POST") and "shard" in path]
    assert tree_of(lds.pull(url, tmp_path / "b.lds", progress=False).path) == tree_of(store.path)


def test_a_damaged_store_is_not_sent(tmp_path: Path, bucket: Bucket) -> None:
    store = raw_store(tmp_path)
    path = store.path / "shard-00000/images.npy"
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"1 of 8 rows are damaged: 4"):
        lds.push(store.path, f"{bucket.url}/a.lds", progress=False)
    assert not ObjectFolder(f"{bucket.url}/a.lds").exists("manifest.json")


def test_damage_in_the_bucket_is_found(tmp_path: Path, bucket: Bucket) -> None:
    store = raw_store(tmp_path)
    url = f"{bucket.url}/a.lds"
    lds.push(store, url, progress=False)
    data = bytearray((store.path / "shard-00000/label.npy").read_bytes())
    data[-1] ^= 1
    ObjectFolder(url).write("shard-00000/label.npy", bytes(data))
    with pytest.raises(StoreError, match="is not the shard that the manifest lists"):
        lds.pull(url, tmp_path / "b.lds", progress=False)
    assert not list((tmp_path / "b.lds").glob("*shard-00000*"))
    ObjectFolder(url).delete("shard-00000/label.npy")
    with pytest.raises(StoreError, match=r"label.npy does not exist: .*a.lds was replaced or damaged"):
        lds.pull(url, tmp_path / "b.lds", progress=False)


def test_another_store_is_in_place(tmp_path: Path, bucket: Bucket) -> None:
    store, other = raw_store(tmp_path), make_labelled_store(tmp_path, 7, name="o.lds")
    url = f"{bucket.url}/a.lds"
    lds.push(store, url, progress=False)
    with pytest.raises(StoreError, match=f"already holds another store \\({store.identity}, and this one"):
        lds.push(other, url, progress=False)
    with pytest.raises(StoreError, match=f"holds another store \\({other.identity}\\)"):
        lds.pull(url, other.path, progress=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(StoreError, match=r"holds something else \(thesis.tex\)"):
        lds.pull(url, tmp_path / "mine", progress=False)
    assert os.listdir(tmp_path / "mine") == ["thesis.tex"]


def test_names_of_a_hostile_manifest(tmp_path: Path, bucket: Bucket) -> None:
    store = raw_store(tmp_path)
    url = f"{bucket.url}/a.lds"
    lds.push(store, url, progress=False)
    text = (store.path / "manifest.json").read_text()
    for name in ("../../evil", "/etc/evil", "shard-00000/../../x"):
        ObjectFolder(url).write("manifest.json", text.replace("shard-00000", name).encode())
        with pytest.raises(StoreError, match="expected a name like 'shard-00000'"):
            lds.pull(url, tmp_path / "b.lds", progress=False)
    tree = json.loads(text)
    tree["fields"]["../../evil"] = tree["fields"].pop("label")
    ObjectFolder(url).write("manifest.json", json.dumps(tree).encode())
    with pytest.raises(StoreError, match=r"\.\./\.\./evil"):
        lds.pull(url, tmp_path / "b.lds", progress=False)
    assert not (tmp_path / "b.lds").exists()


def test_arguments(tmp_path: Path, bucket: Bucket) -> None:
    store = raw_store(tmp_path)
    with pytest.raises(ArgumentError, match="url: expected a URL"):
        lds.push(store, "/tmp/x", progress=False)
    with pytest.raises(ArgumentError, match="url: expected a URL"):
        lds.pull("x.lds", tmp_path / "b.lds")
    with pytest.raises(StoreError, match="does not exist: expected the folder of a store"):
        lds.push(tmp_path / "none", f"{bucket.url}/a", progress=False)
    with pytest.raises(StoreError, match=f"{bucket.url}/none is not a store"):
        lds.pull(f"{bucket.url}/none", tmp_path / "b.lds", progress=False)
    with pytest.raises(MissingObjectError, match="there is no bucket 'no-such-bucket'"):
        lds.pull("s3://no-such-bucket/a", tmp_path / "b.lds", progress=False)
    with pytest.raises(MissingObjectError, match="there is no bucket 'no-such-bucket'"):
        lds.push(store, "s3://no-such-bucket/a", progress=False)
    shutil.rmtree(tmp_path / "s.lds")
