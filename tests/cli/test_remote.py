"""Commands that copy stores to object storage, and open those that are there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import largeds_native as lds
from tests.builders.s3 import Bucket
from tests.builders.stores import make_labelled_store

Largeds = Callable[..., tuple[int, str, str]]
pytestmark = [
    pytest.mark.s3,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_push_use_and_pull(largeds: Largeds, bucket: Bucket, tmp_path: Path) -> None:
    store = make_labelled_store(tmp_path, 20, 16, shard_bytes=8 * 3 * 16 * 16)
    url, cache = f"{bucket.url}/a.lds", ("--cache", tmp_path / "cache")
    assert largeds("push", store.path, url) == (0, f"{url}: pushed\n", "")
    code, out, _ = largeds("info", url, "--json")
    assert code == 0
    assert json.loads(out)["identity"] == store.identity
    assert json.loads(out)["path"] == url
    assert not (tmp_path / "cache").exists()
    code, out, _ = largeds("verify", url, *cache, "--cache-bytes", "40K")
    assert (code, out) == (0, f"{url}: all 20 rows are as they were packed\n")
    assert largeds("view", url, tmp_path / "v.png", *cache)[0] == 0
    assert largeds("view", url, tmp_path / "v.png")[0] == 1
    code, out, err = largeds("pull", url, tmp_path / "b.lds", "--json")
    assert (code, json.loads(out)["images"]) == (0, 20), err
    assert lds.open(tmp_path / "b.lds").identity == store.identity


def test_train(largeds: Largeds, bucket: Bucket, tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    store = make_labelled_store(tmp_path, 16, 32, classes=[str(i) for i in range(16)])
    url = f"{bucket.url}/a.lds"
    lds.push(store, url, progress=False)
    options = ("--model", "shufflenet_v2_x0_5", "-e", "1", "-b", "8", "--threads", "1", "--quiet", "--device", "cpu")
    assert largeds("train", url, *options, "--cache", tmp_path / "cache")[::2] == (0, "")
    code, _, err = largeds("train", url, *options)
    assert code == 1
    assert "--cache FOLDER" in err


def test_what_is_wrong(largeds: Largeds, bucket: Bucket, tmp_path: Path) -> None:
    code, _, err = largeds("info", f"{bucket.url}/none")
    assert (code, err) == (1, f"largeds: {bucket.url}/none is not a store: it has no manifest.json\n")
    code, _, err = largeds("pull", "s3://no-such-bucket/x", tmp_path / "b.lds")
    assert code == 1
    assert "there is no bucket 'no-such-bucket'" in err
    code, _, err = largeds("push", tmp_path / "none.lds", f"{bucket.url}/x")
    assert code == 1
    assert "does not exist" in err
