"""Reading a checkpoint, a file or the folder of a sharded model, and whether it is one of this model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from torch import nn

from largeds_native.errors import StateError
from largeds_native.trainer import sharded_checkpoint
from largeds_native.trainer.checkpoint_file import read_file
from largeds_native.trainer.ranks import Ranks


def read(path: str | os.PathLike[str], ranks: Ranks | None = None) -> dict[str, Any]:
    """Load a checkpoint to the CPU, without running code from it. The tensors of a sharded model are only described,
    by `parts.SavedTensor`; with `ranks`, all ranks read it together, and each verifies some of its files.

    Raises StateError if it is missing, cut off, changed by a single bit, foreign, or of another version; StorageError
    if the operating system refuses it.
    """
    if not Path(path).is_dir():
        return read_file(path)
    state = read_file(Path(path, sharded_checkpoint.RUN))
    sharded_checkpoint.check_files(Path(path), state.get("files", {}), ranks)
    described: dict[str, Any] = sharded_checkpoint.put_back(state)
    return described


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The state in a checkpoint, a file or the folder of a sharded model, with whole tensors on the CPU, in this
    process alone: `read_checkpoint(path)["model"]` are the weights. No code from the checkpoint is run.

    Raises StateError if it is missing, damaged or foreign; StorageError if the operating system refuses it.
    """
    state = read(path)
    whole: dict[str, Any] = sharded_checkpoint.load(Path(path), state, state.get("files", {}), None)
    return whole


def check_groups(optimizer: Any, saved: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Raises StateError unless the optimizer has as many groups of parameters as when it was saved."""
    here, there = len(optimizer.param_groups), len(saved["param_groups"])
    if here != there:
        advice = (
            ": groups that were added during the run (add_param_group, in a callback) must be added again before fit"
            if here < there
            else ": add groups of parameters after the resume, or begin in another checkpoint_dir"
        )
        raise StateError(
            f"{path}: a checkpoint of another optimizer: expected groups of parameters: {here}, found: {there}{advice}"
        )


def check_model(model: nn.Module, saved: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Raises StateError unless the names and shapes of the saved weights are those of this model."""
    own = {name: tuple(value.shape) for name, value in model.state_dict().items() if hasattr(value, "shape")}
    other = {name: tuple(value.shape) for name, value in saved.items() if hasattr(value, "shape")}
    for name in [*own, *other]:
        if own.get(name) != other.get(name):
            expected, found = (str(shapes.get(name, "nothing")) for shapes in (own, other))
            raise StateError(f"{path}: a checkpoint of another model: {name} is {expected} here, {found} in the file")
