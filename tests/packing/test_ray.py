"""Packing on a Ray cluster of several nodes, all of them processes of this machine."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import largeds_native as lds
from largeds_native.errors import ArgumentError, DecodeError, PackError
from tests.builders.trees import make_tree
from tests.packing.test_pack import files_of
from tests.packing.test_parts import SMALL

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Three nodes of two processors each, of which the first is the caller's."""
    pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    for _ in range(2):
        nodes.add_node(num_cpus=2)
    ray.init(address=nodes.address, log_to_driver=False)
    nodes.wait_for_nodes()
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture
def slow_decode(tmp_path: Path) -> Callable[[Path], None]:
    """Makes the images of a tree so large that a shard takes a while."""

    def enlarge(tree: Path) -> None:
        make_tree(tree, 2, 24, height=900, width=1200)

    return enlarge


@pytest.mark.parametrize("options", [SMALL, {"codec": "jpeg", "resize": 16, "shard_bytes": 5000}], ids=["raw", "jpeg"])
def test_the_same_bytes(cluster: Any, tmp_path: Path, options: dict[str, Any]) -> None:
    paths = make_tree(tmp_path / "tree", 3, 10)
    paths[7].write_bytes(b"rotten")
    options = {**options, "max_failures": 1, "progress": False}
    whole = lds.pack(tmp_path / "tree", tmp_path / "whole", **options)
    store = lds.pack(tmp_path / "tree", tmp_path / "out", engine="ray", threads=1, **options)
    assert files_of(store.path) == files_of(whole.path)
    report = store.report
    assert report is not None
    assert report.failed == whole.report.failed  # type: ignore[union-attr]
    assert (report.threads, report.resumed_shards) == (6, 0)
    assert report.images_per_second > 0


def test_a_node_is_killed_in_the_middle(cluster: Any, tmp_path: Path, slow_decode: Callable[[Path], None]) -> None:
    """What it was packing is packed again elsewhere, and nothing else is lost."""
    slow_decode(tmp_path / "tree")
    options = {**SMALL, "progress": False}
    whole = lds.pack(tmp_path / "tree", tmp_path / "whole", **options)
    doomed = cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    result: list[Any] = []

    def pack() -> None:
        result.append(lds.pack(tmp_path / "tree", tmp_path / "out", engine="ray", threads=2, **options))

    work = threading.Thread(target=pack)
    work.start()
    while not any((tmp_path / "out").glob("shard-*")):
        time.sleep(0.005)
    cluster.remove_node(doomed, allow_graceful=False)
    assert not (tmp_path / "out/manifest.json").exists()
    work.join(timeout=200)
    assert files_of(result[0].path) == files_of(whole.path)
    assert not (tmp_path / "out/.pack").exists()


def test_it_goes_on_from_the_shards_that_are_there(cluster: Any, tmp_path: Path) -> None:
    make_tree(tmp_path / "tree", 2, 10)
    plan = lds.packing.plan(tmp_path / "tree", tmp_path / "out", **SMALL)
    lds.packing.pack_shard(plan, 2)
    store = lds.pack(tmp_path / "tree", tmp_path / "out", engine="ray", progress=False, **SMALL)
    assert store.report is not None
    assert (store.report.resumed_shards, len(store)) == (1, 20)


def test_errors_of_tasks(cluster: Any, tmp_path: Path) -> None:
    paths = make_tree(tmp_path / "tree", 2, 10)
    paths[13].write_bytes(b"rotten")
    options = {**SMALL, "progress": False, "engine": "ray"}
    with pytest.raises(DecodeError, match=r"class1/0003\.png"):
        lds.pack(tmp_path / "tree", tmp_path / "out", on_error="raise", **options)
    with pytest.raises(PackError, match="1 of the 20 images"):
        lds.pack(tmp_path / "tree", tmp_path / "out", max_failures=0, **options)
    with pytest.raises(ArgumentError, match=r"threads: a task of 64 fits no machine of the Ray cluster.*2 processors"):
        lds.pack(tmp_path / "tree", tmp_path / "out", threads=64, **options)
    assert len(lds.pack(tmp_path / "tree", tmp_path / "out", max_failures=1, **options)) == 19


def test_ctrl_c_stops_the_tasks(
    cluster: Any, tmp_path: Path, slow_decode: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_decode(tmp_path / "tree")
    from largeds_native.packing.ray_run import _RayRun

    original = _RayRun._take

    def interrupted(self: Any, bar: Any) -> None:
        original(self, bar)
        raise KeyboardInterrupt

    monkeypatch.setattr(_RayRun, "_take", interrupted)
    with pytest.raises(KeyboardInterrupt, match=r"shards finished in .*: run the same pack again"):
        lds.pack(tmp_path / "tree", tmp_path / "out", engine="ray", threads=2, progress=False, **SMALL)
    deadline = time.monotonic() + 60
    while os.listdir(tmp_path / "out/.pack") and time.monotonic() < deadline:
        time.sleep(0.1)
    before = sorted(os.listdir(tmp_path / "out"))
    time.sleep(1.0)
    assert sorted(os.listdir(tmp_path / "out")) == before
    assert not (tmp_path / "out/manifest.json").exists()


def test_without_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tree(tmp_path / "tree", 1, 4)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ArgumentError, match=r"Ray is not installed: pip install 'largeds-native\[ray\]'"):
        lds.pack(tmp_path / "tree", tmp_path / "out", engine="ray", progress=False, **SMALL)
