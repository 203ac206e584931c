"""Two ranks started by torchrun: one all-reduce per step, unequal counts, resume."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent.parent


def torchrun(folder: Path, seed: int, stop: int) -> dict:
    folder.mkdir(exist_ok=True)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, "-m", "tests.trainer.torchrun_script", str(folder), str(seed), str(stop)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return torch.load(folder / f"result-{seed}.pt", weights_only=True)


def test_two_ranks_of_torchrun(tmp_path):
    whole = torchrun(tmp_path / "whole", seed=5, stop=99)
    assert whole["world_size"] == 2
    assert torch.equal(*whole["weights"])
    # three steps an epoch; in the third one a rank has no data, and the gradients are summed without DDP's hook
    assert (whole["step"], whole["all_reduces"]) == (6, 4)
    torchrun(tmp_path / "cut", seed=5, stop=5)  # its last checkpoint is of step 4, within the second epoch
    resumed = torchrun(tmp_path / "cut", seed=99, stop=99)
    assert resumed["step"] == 6
    assert torch.equal(resumed["weights"][0], whole["weights"][0])
    assert resumed["history"] == whole["history"]
