"""Runs a check in several processes over gloo, as torchrun would start them."""

from __future__ import annotations

import faulthandler
import os
import socket
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

Check = Callable[[int, Path], None]
PRELOAD = [
    "torch",
    "torch._dynamo",
    "torch.utils.data",
    "torch.distributed.fsdp",
    "torch.distributed.checkpoint",
    "pytest",
]


def child(rank: int, world_size: int, check: Check, folder: Path, port: int) -> None:
    torch.set_num_threads(1)
    faulthandler.dump_traceback_later(int(os.environ.get("DUMP_AFTER", "180")))  # where it hangs
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= address | {"RANK": str(rank), "WORLD_SIZE": str(world_size)}
    dist.init_process_group("gloo")
    try:
        check(rank, folder)
    except BaseException:
        traceback.print_exc()
        os._exit(1)  # the other ranks would wait for us in a collective call
    dist.barrier()
    dist.destroy_process_group()


def start(world_size: int, check: Check, folder: Path) -> list[mp.Process]:
    """One process a rank, each of which calls `check(rank, folder)`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    arguments = [(rank, world_size, check, folder, port) for rank in range(world_size)]
    processes = [context.Process(target=child, args=own) for own in arguments]
    for process in processes:
        process.start()
    return processes


def run(world_size: int, check: Check, folder: Path, seconds: int = 200) -> None:
    """The check must pass on all ranks."""
    processes = start(world_size, check, folder)
    for process in processes:
        process.join(seconds)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert codes == [0] * world_size
