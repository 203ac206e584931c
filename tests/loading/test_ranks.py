"""Real processes under torchrun, over gloo: the union of their batches is the epoch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def epochs_of_ranks(folder: Path, store: Any, world: int, state: Any = None, stop: int = 0) -> list[Any]:
    folder.mkdir()
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"]
    arguments = ["-m", "tests.programs.load_on_ranks", str(store.path), str(folder), json.dumps(state), str(stop)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [*launch, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(world)]


@pytest.mark.timeout(400)
def test_under_torchrun(store: Any, tmp_path: Path) -> None:
    first = epochs_of_ranks(tmp_path / "first", store, 2, stop=3)
    assert first[0]["length"] == first[1]["length"] == 7
    assert first[0]["state"] == first[1]["state"]
    seen = [label for rank in first for batch in rank["batches"] for label in batch]
    assert len(seen) == len(set(seen)) == 48
    rest = epochs_of_ranks(tmp_path / "rest", store, 3, first[0]["state"])
    assert {len(rank["batches"]) for rank in rest} == {3}
    left = [label for rank in rest for batch in rank["batches"] for label in batch]
    assert set(left) >= set(range(100)) - set(seen)
    assert len(left) == 54  # 52 samples, filled up to a multiple of 3
    assert all(rank["state"]["epoch"] == 1 for rank in rest)
