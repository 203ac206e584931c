from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import largeds_native as lds
from largeds_native.errors import PackError, StorageError, StoreError
from largeds_native.packing.lock import FolderLock
from tests.builders.trees import make_tree, smooth_pixels
from tests.packing.test_pack import files_of

OPTIONS: dict[str, Any] = {"resize": 16, "crop": 12, "progress": False, "shard_bytes": 2 * 3 * 12 * 12}
ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(240)
def test_killed_anywhere_it_ends_byte_identical(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    paths = make_tree(tree, 4, 8)
    paths[5].write_bytes(b"rotten")
    whole = files_of(lds.pack(tree, tmp_path / "whole", **OPTIONS).path)
    arguments = [str(tree), str(tmp_path / "out"), "60", "7", json.dumps(OPTIONS)]
    command = [sys.executable, "-m", "tests.programs.pack_and_kill", *arguments]
    killed = int(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=200).stdout)
    assert killed >= 50
    last = lds.pack(tree, tmp_path / "out", **OPTIONS)
    done = [last.path, *tmp_path.glob("out-done-*")]
    for path in done:
        assert files_of(path) == whole


def begin(tree: Path, out: Path, shards: int) -> None:
    """Leaves a pack that was interrupted after some shards."""
    from largeds_native.packing.run import Job

    original = Job._pack_shard

    def stop_after(self: Any, number: int, *rest: Any) -> bool:
        if number == shards:
            self._finisher.wait()
            raise KeyboardInterrupt
        return original(self, number, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Job, "_pack_shard", stop_after)
        with pytest.raises(KeyboardInterrupt, match=rf"stopped with {shards} of .* run the same pack again"):
            lds.pack(tree, out, **OPTIONS)


def test_stopped_and_resumed(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree")
    whole = lds.pack(tmp_path / "tree", tmp_path / "whole", **OPTIONS)
    begin(tmp_path / "tree", tmp_path / "out", 4)
    with pytest.raises(StoreError, match="is an unfinished pack"):
        lds.open(tmp_path / "out")
    assert not (tmp_path / "out/.pack.lock").exists()
    store = lds.pack(tmp_path / "tree", tmp_path / "out", **OPTIONS)
    assert files_of(store.path) == files_of(whole.path)
    assert store.report is not None
    assert store.report.resumed_shards == 4
    assert store.report.packed == 12


def test_another_job_is_an_error(tmp_path: Path) -> None:
    paths = make_tree(tmp_path / "tree")
    begin(tmp_path / "tree", tmp_path / "out", 3)
    with pytest.raises(PackError, match="crop was \\[12, 12\\], is now \\[8, 8\\]"):
        lds.pack(tmp_path / "tree", tmp_path / "out", **{**OPTIONS, "crop": 8})
    Image.fromarray(smooth_pixels(5)).save(tmp_path / "tree/class0/9999.png")
    with pytest.raises(PackError, match="list of images changed"):
        lds.pack(tmp_path / "tree", tmp_path / "out", **OPTIONS)
    (tmp_path / "tree/class0/9999.png").unlink()
    time.sleep(0.02)
    Image.fromarray(smooth_pixels(77)).save(paths[1], format="JPEG")
    with pytest.raises(PackError, match=r"1 images changed .*'class0/0001\.jpg'.*resume=False"):
        lds.pack(tmp_path / "tree", tmp_path / "out", **OPTIONS)
    store = lds.pack(tmp_path / "tree", tmp_path / "out", resume=False, **OPTIONS)
    whole = lds.pack(tmp_path / "tree", tmp_path / "whole", **OPTIONS)
    assert files_of(store.path) == files_of(whole.path)


def test_two_packs_into_one_output(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree", 1, 3)
    (tmp_path / "out").mkdir()
    lock = FolderLock(tmp_path / "out")
    with pytest.raises(PackError, match=f"another process \\({os.getpid()}\\) is packing into"):
        lds.pack(tmp_path / "tree", tmp_path / "out", **OPTIONS)
    lock.release()
    assert len(lds.pack(tmp_path / "tree", tmp_path / "out", **OPTIONS)) == 3


def test_packs_that_wait_for_each_other(tmp_path: Path) -> None:
    """As ranks do that all call pack: one packs, and each gets the store."""
    make_tree(tmp_path / "tree", 2, 5)
    (tmp_path / "out").mkdir()
    lock = FolderLock(tmp_path / "out")
    with ThreadPoolExecutor(3) as pool:
        packs = [pool.submit(lds.pack, tmp_path / "tree", tmp_path / "out", wait=True, **OPTIONS) for _ in range(3)]
        time.sleep(0.5)
        assert not any(pack.done() for pack in packs)
        lock.release()
        stores = [pack.result(timeout=60) for pack in packs]
    assert [len(store) for store in stores] == [10, 10, 10]
    assert len({store.identity for store in stores}) == 1
    assert not (tmp_path / "out" / ".pack.lock").exists()


def test_half_written_shards_are_packed_again(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree")
    whole = files_of(lds.pack(tmp_path / "tree", tmp_path / "whole", **OPTIONS).path)
    begin(tmp_path / "tree", tmp_path / "out", 3)
    (tmp_path / "out/shard-00001/shard.json").write_text("{")
    (tmp_path / "out/.shard-00003.tmp").mkdir()
    (tmp_path / "out/.shard-00003.tmp/images.npy").write_bytes(b"half")
    (tmp_path / "out/.manifest.json.tmp").write_bytes(b"half")
    assert files_of(lds.pack(tmp_path / "tree", tmp_path / "out", **OPTIONS).path) == whole


def test_ctrl_c_stops_soon(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "a").mkdir(parents=True)
    random.seed(1)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), np.uint8)).save(tree / "a/0.jpg")
    for i in range(1, 400):
        (tree / f"a/{i}.jpg").hardlink_to(tree / "a/0.jpg")
    sent: list[float] = []

    def interrupt() -> None:
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    timer = threading.Timer(1.0, interrupt)
    timer.start()
    with pytest.raises(KeyboardInterrupt, match="run the same pack again"):
        lds.pack(tree, tmp_path / "out", progress=False, shard_bytes=10 * 3 * 224 * 224)
    signal.signal(signal.SIGINT, before)
    assert len(sent) == 1
    assert not (tmp_path / "out/manifest.json").exists()
    assert not (tmp_path / "out/.pack.lock").exists()


def test_read_only_output(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree", 1, 1)
    with pytest.raises(StorageError, match="can't be written to"):
        lds.pack(tmp_path / "tree", "/proc/nothing/here", **OPTIONS)


@pytest.mark.parametrize("tiny_disk", ["256k"], indirect=True)
def test_disk_full_in_the_middle(tmp_path: Path, tiny_disk: Path) -> None:
    make_tree(tmp_path / "tree", 4, 25)
    options = {**OPTIONS, "resize": 40, "crop": 40, "shard_bytes": 10 * 3 * 40 * 40}
    with pytest.raises(StorageError, match="disk is full"):
        lds.pack(tmp_path / "tree", tiny_disk / "out", **options)
    finished = sorted(path.name for path in (tiny_disk / "out").glob("shard-*"))
    assert finished
    subprocess.run(["mount", "-o", "remount,size=4m", str(tiny_disk)], check=True)
    store = lds.pack(tmp_path / "tree", tiny_disk / "out", **options)
    assert store.report is not None
    assert store.report.resumed_shards == len(finished)
    whole = lds.pack(tmp_path / "tree", tmp_path / "whole", **options)
    assert files_of(store.path) == files_of(whole.path)
