"""The report of a pack: the limit, the table, the progress bar."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import largeds_native as lds
from tests.builders.terminal import read_to_the_end
from tests.builders.trees import make_tree

SMALL: dict[str, Any] = {"resize": 16, "crop": 12, "progress": False}
ROOT = Path(__file__).parents[2]


def limit_of(store: Any) -> str:
    assert store.report is not None
    return str(store.report.limit)


def test_decoding_is_the_limit(tmp_path: Path) -> None:
    (tmp_path / "tree/a").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "tree/a/0.jpg", quality=95)
    for i in range(1, 100):
        (tmp_path / f"tree/a/{i}.jpg").hardlink_to(tmp_path / "tree/a/0.jpg")
    assert limit_of(lds.pack(tmp_path / "tree", tmp_path / "out", threads=2, **SMALL)) == "decode"


class Slow:
    """A slow dataset."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Any:
        time.sleep(0.02)
        return np.full((16, 16, 3), index, np.uint8), index


def test_the_source_is_the_limit(tmp_path: Path) -> None:
    assert limit_of(lds.pack(Slow(), tmp_path / "out", threads=2, **SMALL)) == "source"


def test_the_disk_is_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tree(tmp_path / "tree")
    sync = os.fsync

    def slow_sync(descriptor: int) -> None:
        time.sleep(0.02)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", slow_sync)
    store = lds.pack(tmp_path / "tree", tmp_path / "out", shard_bytes=1, threads=2, **SMALL)
    assert limit_of(store) == "disk write"


def test_the_table(tmp_path: Path) -> None:
    paths = make_tree(tmp_path / "tree")
    paths[3].write_bytes(b"rotten")
    (tmp_path / "tree/class0/x.bmp").write_bytes(b"")
    report = lds.pack(tmp_path / "tree", tmp_path / "out", max_failures=2, **SMALL).report
    assert report is not None
    stream = io.StringIO()
    Console(file=stream, width=120).print(report)
    text = stream.getvalue()
    for expected in ("packed 11 of 13 images", "failed", "core 11", "images/s", "MB/s", "limit", "class0/0003.png: "):
        assert expected in text
    assert report.source_mb_per_second > 0
    assert report.images_per_second > 0


def test_no_output_without_a_terminal(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree")
    command = [sys.executable, "-m", "tests.programs.pack_tree", str(tmp_path / "tree"), str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=100)
    assert done.stdout == done.stderr == b""


def test_a_bar_and_the_table_on_a_terminal(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree")
    command = [sys.executable, "-m", "tests.programs.pack_tree", str(tmp_path / "tree"), str(tmp_path / "out")]
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(command, cwd=ROOT, stderr=theirs, stdout=subprocess.PIPE, env=environment) as child:
        os.close(theirs)
        seen = read_to_the_end(ours)
        assert child.wait(100) == 0
        assert child.stdout is not None
        assert child.stdout.read() == b""
    os.close(ours)
    assert re.search(rb"images/s, [\d.]+ [kM]B/s", seen)
    for expected in (b"packing", b"12/12", b"images/s", b"packed 12 of 12 images"):
        assert expected in seen
