"""Packs a folder of images by jobs of a Slurm cluster, with submitit; "local" runs the jobs on this machine.

python examples/pack_on_slurm.py photos/train train.lds 16 slurm
"""

from __future__ import annotations

import sys

import submitit

import largeds_native as lds


def pack_numbers(plan: lds.packing.Plan, numbers: range) -> None:
    for number in numbers:
        lds.packing.pack_shard(plan, number)  # writes the shard; one that is there is not packed again


def main(source: str, out: str, jobs: int, cluster: str = "local", threads: int = 8) -> None:
    plan = lds.packing.plan(source, out, codec="jpeg", resize=256, threads=threads)
    executor = submitit.AutoExecutor(folder=f"{out}.log", cluster=cluster)
    executor.update_parameters(cpus_per_task=threads, timeout_min=12 * 60, slurm_array_parallelism=jobs)
    with executor.batch():
        parts = [executor.submit(pack_numbers, plan, plan.numbers(i + 1, jobs)) for i in range(jobs)]
    for part in parts:
        part.wait()
    print(lds.packing.commit(plan))  # names the shards that are missing, if a job was lost: then run this again


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:5])
