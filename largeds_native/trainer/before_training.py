"""What is looked at before the first step of a fit, and what is said if there was none."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from typing import Any

import torch.distributed as dist
from torch import nn

from largeds_native.errors import ArgumentError, StorageError
from largeds_native.trainer.arguments import check_classes, check_loader
from largeds_native.trainer.checkpoint_folder import CheckpointFolder
from largeds_native.trainer.evaluation import check_world
from largeds_native.trainer.members import check_members
from largeds_native.trainer.ranks import Ranks
from largeds_native.trainer.weights import Loss


def check_loaders(
    train_loader: Iterable[Any], val_loader: Iterable[Any] | None, model: nn.Module, loss: Loss, ranks: Ranks
) -> None:
    """ArgumentError unless the loaders are for this model, this loss and these ranks, and go together."""
    check_loader("train_loader", train_loader)
    check_world(train_loader, ranks.world_size)
    check_members("train_loader", train_loader, model, loss)
    if val_loader is None:
        return
    check_loader("val_loader", val_loader)
    check_classes(train_loader, val_loader)
    check_world(val_loader, ranks.world_size)
    check_members("val_loader", val_loader, model, loss)
    if ranks.longest(val_loader) == 0:
        raise ArgumentError("the loader to evaluate on is empty")


def check_checkpoint_dir(folder: CheckpointFolder | None, ranks: Ranks) -> None:
    """StorageError, on all ranks, unless checkpoints can be written."""
    refused: str | None = None
    if folder is not None and ranks.rank == 0:
        try:
            folder.prepare()
        except StorageError as error:
            refused = str(error)
    refused = ranks.first(refused)
    if refused is not None:
        raise StorageError(refused)


def warn_of_processes_apart() -> None:
    """torchrun's processes that do not know of each other train a model each, into the same folder."""
    count = os.environ.get("WORLD_SIZE", "1")
    if count != "1" and dist.is_available() and dist.is_torchelastic_launched() and not dist.is_initialized():
        warnings.warn(
            f"torchrun started {count} processes, and torch.distributed is not initialised: each of them trains a "
            "model of its own, and would write the same checkpoints. Call "
            'torch.distributed.init_process_group("nccl") first, or "gloo" without GPUs',
            stacklevel=3,
        )


def warn_of_nothing(done: int, epochs: int, where: str) -> None:
    """A fit that trained nothing looks like one that did."""
    if done < epochs:
        found = f"a callback had stopped the run at epoch {done}: change the callback (more patience)"
    else:
        found = f"epochs done: {done}, asked for: {epochs} in all: ask for more"
    warnings.warn(f"{where}: nothing was trained: {found}, or begin in another checkpoint_dir", stacklevel=3)
