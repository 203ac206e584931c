"""Checkpoints of sharded models: a folder with one file per rank, as torch.distributed.checkpoint writes them.

    step-0000000012/
      __0_0.distcp ...   the parts of tensors: each rank writes its own
      .metadata          which part is where; torch's
      run.pt             the rest, as in any other checkpoint, and a hash of each file; written last

All ranks must see the same folder. It is written under a temporary name, synced, and renamed, so it is complete or not
there. Any number of ranks can load it, sharded or not. What torch writes is read in part_files.py.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from largeds_native.errors import StateError, StorageError
from largeds_native.store.format.files import sync
from largeds_native.trainer import parts
from largeds_native.trainer.ranks import Ranks
from largeds_native.trainer.sharding import is_dtensor

RUN = "run.pt"
_TENSOR = "<tensor of the files>"  # the key of a dict that stands for one


def take_out(state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The state with descriptions for the tensors of which each rank has a part, and those tensors by their names."""
    tensors: dict[str, Tensor] = {}

    def replace(path: parts.Path, value: Any) -> Any:
        if not is_dtensor(value):
            return value
        name = "/".join(map(str, path))
        tensors[name] = value.detach()
        return {_TENSOR: name, "shape": list(value.shape), "dtype": value.dtype}

    return parts.change(state, replace), tensors


def put_back(state: Any) -> Any:
    """The state with a `SavedTensor` for each description."""
    if isinstance(state, dict):
        if _TENSOR in state:
            return parts.SavedTensor(str(state[_TENSOR]), torch.Size(state["shape"]), state["dtype"])
        return {key: put_back(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(put_back(value) for value in state)
    return state


def write_parts(folder: Path, tensors: dict[str, Tensor], ranks: Ranks) -> dict[str, str]:
    """All ranks write their parts into the folder; name -> hash of each file. Raises StorageError on all of them."""
    from largeds_native.trainer import part_files  # what it imports of torch takes long

    problem = part_files.write(folder, tensors, ranks.group)
    hashes: dict[str, str] = {}
    try:
        own = sorted(folder.glob(f"__{ranks.rank}_*")) + ([folder / part_files.METADATA] if ranks.rank == 0 else [])
        hashes = {path.name: hash_of(path) for path in own}
    except OSError as error:
        problem = problem or str(error)
    everyone = ranks.gather((problem, hashes))
    problems = [found for found, _ in everyone if found]
    if problems:
        raise StorageError(f"can't write the checkpoint {folder}: {problems[0]}")
    return {name: found for _, own_hashes in everyone for name, found in own_hashes.items()}


def check_all_seen(folder: Path, hashes: dict[str, str]) -> None:
    """StorageError unless the files of all ranks are in this folder."""
    missing = [name for name in hashes if not (folder / name).is_file()]
    if missing:
        raise StorageError(
            f"{folder.parent}: {missing[0]}, which another rank has written, is not there: give a checkpoint_dir that "
            "is the same folder for all ranks, as on a shared file system"
        )
    sync(folder)


def check_files(folder: Path, hashes: dict[str, str], ranks: Ranks | None) -> None:
    """StateError unless all files are as they were written. With `ranks`, each of them reads some of the files, and
    all raise the same."""
    problem = ""
    for number, (name, expected) in enumerate(sorted(hashes.items())):
        if ranks is not None and number % ranks.world_size != ranks.rank:
            continue
        try:
            if "/" in name or hash_of(folder / name) != expected:
                problem = f"{folder}: not a complete checkpoint: the bytes of {name} are not those that were written"
        except OSError as error:
            problem = f"{folder}: not a complete checkpoint: {error}"
    found = [problem] if ranks is None else ranks.gather(problem)
    for problem in filter(None, found):
        raise StateError(problem)


def hash_of(path: Path) -> str:
    """Of the file's bytes, in hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=32)
    with open(path, "rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()


def load(folder: Path, state: dict[str, Any], hashes: dict[str, str], placement: parts.Placement | None) -> Any:
    """The state with its tensors: this rank's parts where `placement` says so, else whole, on the CPU.

    Raises StateError for files that are damaged or not what run.pt says.
    """
    wanted: dict[str, Tensor] = {}

    def replace(path: parts.Path, value: Any) -> Any:
        if not isinstance(value, parts.SavedTensor):
            return value
        if value.name not in wanted:
            whole = placement is None
            wanted[value.name] = torch.empty(value.shape, dtype=value.dtype) if whole else placement.empty(path, value)  # type: ignore[union-attr]
        return wanted[value.name]

    loaded = parts.change(state, replace)
    if not wanted:
        return loaded
    from largeds_native.trainer import part_files

    part_files.read(folder, wanted, set(hashes))
    return loaded
