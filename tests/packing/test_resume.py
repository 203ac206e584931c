from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import largeds_native as lds
from largeds_native.errors import PackError, StorageError, StoreError
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
    from largeds_native.packing.shard_packer import ShardPacker

    original = ShardPacker.pack

    def stop_after(self: Any, number: int, *rest: Any) -> Any:
        if number == shards:
            self.finish()
            raise KeyboardInterrupt
        return original(self, number, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ShardPacker, "pack", stop_after)
        with pytest.raises(KeyboardInterrupt, match=rf"stopped with {shards} of .* run the same pack again"):
            lds.pack(tree, out, **OPTIONS)


def test_stopped_and_resumed(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree")
    whole = lds.pack(tmp_path / "tree", tmp_path / "whole", **OPTIONS)
    begin(tmp_path / "tree", tmp_path / "out", 4)
    with pytest.raises(StoreError, match="is an unfinished pack"):
        lds.open(tmp_path / "out")
    assert os.listdir(tmp_path / "out/.pack") == []
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


def test_half_written_shards_are_packed_again(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree")
    whole = files_of(lds.pack(tmp_path / "tree", tmp_path / "whole", **OPTIONS).path)
    begin(tmp_path / "tree", tmp_path / "out", 3)
    (tmp_path / "out/shard-00001/shard.json").write_text("{")
    for half in ("shard-00003.elsewhere-4000.77.0123abcd/images.npy", "manifest.json.0123abcd"):
        path = tmp_path / "out/.pack" / half
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    an_hour_ago = time.time() - 3600
    os.utime(tmp_path / "out/.pack/shard-00003.elsewhere-4000.77.0123abcd", (an_hour_ago, an_hour_ago))
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
    assert os.listdir(tmp_path / "out/.pack") == []


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
