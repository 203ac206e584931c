"""Real processes under torchrun, over gloo: the union of what they are given is the epoch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = """
import json, sys
import torch.distributed as dist
import largeds_native as lds

dist.init_process_group("gloo")
store, out, state = lds.open(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
loader = lds.Loader(store, 8, shuffle=True, seed=2)  # rank and world_size are found
if state:
    loader.load_state_dict(state)
iterator = iter(loader)
stop = int(sys.argv[4])
batches = []
for images, labels in iterator:
    batches.append(labels.tolist())
    if len(batches) == stop:
        break
result = {"length": len(loader), "batches": batches, "state": loader.state_dict()}
with open(f"{out}/{dist.get_rank()}.json", "w") as file:
    json.dump(result, file)
dist.destroy_process_group()
"""


def run(folder: Path, store: Any, world: int, state: Any = None, stop: int = 0) -> list[Any]:
    folder.mkdir()
    script = folder / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}", str(script)]
    arguments = [str(store.path), str(folder), json.dumps(state), str(stop)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}  # the script lies elsewhere
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=200, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(world)]


@pytest.mark.timeout(400)
def test_under_torchrun(store: Any, tmp_path: Path) -> None:
    first = run(tmp_path / "first", store, 2, stop=3)
    assert first[0]["length"] == first[1]["length"] == 7
    assert first[0]["state"] == first[1]["state"]
    seen = [label for rank in first for batch in rank["batches"] for label in batch]
    assert len(seen) == len(set(seen)) == 48
    rest = run(tmp_path / "rest", store, 3, first[0]["state"])
    assert {len(rank["batches"]) for rank in rest} == {3}
    left = [label for rank in rest for batch in rank["batches"] for label in batch]
    assert set(left) >= set(range(100)) - set(seen)
    assert len(left) == 54  # 52 samples, filled up to a multiple of 3
    assert all(rank["state"]["epoch"] == 1 for rank in rest)
