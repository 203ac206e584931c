"""A replica of the torchft example is killed and started again: each sample is seen once in each epoch."""

from __future__ import annotations

import collections
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import largeds_native as lds

pytest.importorskip("torchft")

ROOT = Path(__file__).parent.parent.parent
SAMPLES, EPOCHS, BATCH, SIDE = 64, 2, 8, 32
REPLICA = """
import sys, time
import torch
from examples.elastic_torchft import main

def after_step(labels):
    with open(sys.argv[2], "a") as file:
        file.write(" ".join(map(str, labels.tolist())) + "\\n")
    time.sleep(0.3)

torch.set_num_threads(1)
main(sys.argv[1], epochs=2, crop=32, batch=8, after_step=after_step)
"""


def store(folder: Path) -> str:
    """Each image has a class of its own, so that the label says which one it is."""
    random = np.random.default_rng(0)
    for i in range(SAMPLES):
        (folder / "photos" / f"{i:03d}").mkdir(parents=True)
        image = Image.fromarray(random.integers(0, 256, (SIDE, SIDE, 3), np.uint8))
        image.save(folder / "photos" / f"{i:03d}" / "0.png")
    return str(lds.pack(folder / "photos", folder / "s.lds", resize=SIDE, crop=SIDE, progress=False).path)


def steps(log: Path) -> list[list[str]]:
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def wait_for(log: Path, size: int, count: int, process: subprocess.Popen[bytes]) -> None:
    """Until the log has so many steps of this number of samples."""
    end = time.monotonic() + 100
    while sum(len(step) == size for step in steps(log)) < count:
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.05)


def test_a_replica_leaves_and_comes_back(tmp_path: Path) -> None:
    from torchft.coordination import LighthouseServer

    lighthouse = LighthouseServer("[::]:0", 1, join_timeout_ms=1000, heartbeat_timeout_ms=2000)
    environment = os.environ | {"TORCHFT_LIGHTHOUSE": lighthouse.address(), "PYTHONPATH": str(ROOT)}
    environment["CUDA_VISIBLE_DEVICES"] = ""
    path, logs, processes = store(tmp_path), [tmp_path / name for name in ("stays", "killed", "again")], []

    def start(log: Path) -> subprocess.Popen[bytes]:
        with open(log.with_suffix(".err"), "wb") as errors:
            command = [sys.executable, "-c", REPLICA, path, str(log)]
            processes.append(subprocess.Popen(command, env=environment, stderr=errors))
        return processes[-1]

    try:
        stays, killed = start(logs[0]), start(logs[1])
        wait_for(logs[1], BATCH // 2, 2, killed)  # the two share each batch
        alone = sum(len(step) == BATCH for step in steps(logs[0]))
        killed.kill()
        wait_for(logs[0], BATCH, alone + 2, stays)
        again = start(logs[2])
        assert stays.wait(100) == again.wait(100) == 0, logs[0].with_suffix(".err").read_text()[-2000:]
    finally:
        for process in processes:
            process.kill()
            process.wait()
        lighthouse.shutdown()
    assert all(any(len(step) == BATCH // 2 for step in steps(log)) for log in logs)
    seen = collections.Counter(label for log in logs for step in steps(log) for label in step)
    assert len(seen) == SAMPLES
    assert set(seen.values()) == {EPOCHS}
