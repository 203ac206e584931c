"""What a user starts with `torchrun --nproc-per-node 2 torchrun_script.py FOLDER SEED STOP`; see test_torchrun.py.

Trains on batches whose counts differ between the ranks, and writes what came of it to FOLDER/result-SEED.pt.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from tests.trainer.helpers import Stop, StopAt, numbers, parameters_of, samples, small_model
from tests.trainer.test_ranks import accuracy, count_all_reduces, cut, make

PLAN = (
    [4, 4, 3, 4, 2],
    [4, 2, 4, 1],
)  # samples of each batch, by rank: in the last of three groups only rank 0 has any


def main(folder: Path, seed: int, stop: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")  # address, rank and world size come from torchrun
    rank = dist.get_rank()
    ddp = DistributedDataParallel(small_model(dropout=0.2).double())
    counts = count_all_reduces(ddp)
    trainer = make(
        ddp,
        accumulate=2,
        micro_batch=3,
        checkpoint_dir=folder / "run",
        checkpoint_every=1,
        metrics={"accuracy": accuracy},
        callbacks=[StopAt(stop)],
    )
    torch.manual_seed(seed + rank)
    inputs, targets = samples(sum(map(sum, PLAN)), torch.float64)
    batches = cut(PLAN[rank], 0 if rank == 0 else sum(PLAN[0]), inputs, targets)
    with contextlib.suppress(Stop):
        trainer.fit(batches, 2, batches[: 1 + rank])
    weights = trainer.ranks.gather(parameters_of(ddp))
    if rank == 0:
        result = {
            "weights": weights,
            "history": numbers(trainer.history),
            "all_reduces": counts[0],
            "step": trainer.step,
            "world_size": trainer.ranks.world_size,
        }
        torch.save(result, folder / f"result-{seed}.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
