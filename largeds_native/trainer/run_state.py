"""Everything that a resume needs: a dict of the run's parts, each with its own `state_dict`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from largeds_native.errors import ArgumentError, StateError, StorageError
from largeds_native.trainer import checkpoint, sharded_checkpoint
from largeds_native.trainer.checkpoint_folder import CheckpointFolder
from largeds_native.trainer.parts import Placement, SavedTensor, change, values
from largeds_native.trainer.ranks import Ranks

LoadedCheckpoint = tuple[dict[str, Any], "str | os.PathLike[str]"]  # a checkpoint and its path


class Stateful(Protocol):
    """Anything with torch's `state_dict` and `load_state_dict`."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any) -> Any: ...


class OfRank(Stateful, Protocol):
    """What differs between the ranks."""

    def load_from_ranks(self, states: list[Any], rank: int, world_size: int) -> None:
        """Continue from the states of another number of ranks, as rank `rank` of `world_size`. Raises StateError if
        that can't be done exactly."""


@dataclass(frozen=True)
class RunParts:
    """The parts of a run, by their names in the checkpoint. None: this run does not have the part."""

    model: nn.Module  # the user's module, without DDP
    kinds: Mapping[str, Stateful | None]  # the same on every rank; the classes must be those in the checkpoint
    shared: Mapping[str, Stateful]  # the same on every rank
    own: Mapping[str, OfRank | None]  # differs between the ranks
    ranks: Ranks

    def kind(self, name: str) -> str:
        part = self.kinds[name]
        return "none" if part is None else type(part).__name__


def capture(parts: RunParts) -> dict[str, Any]:
    """The state of the run, as tensors and plain values."""
    return {
        "model": parts.model.state_dict(),
        "kinds": {name: parts.kind(name) for name in parts.kinds},
        **_states(parts.kinds),
        **_states(parts.shared),
        "ranks": parts.ranks.gather(_states(parts.own)),
    }


def _states(parts: Mapping[str, Stateful | None]) -> dict[str, Any]:
    return {name: None if part is None else part.state_dict() for name, part in parts.items()}


def restore(parts: RunParts, state: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Continue from `capture()`. Raises StateError, before anything is changed, if it belongs to another run."""
    checkpoint.check_model(parts.model, state["model"], path)
    for name, found in state["kinds"].items():
        if found != (expected := parts.kind(name)):
            raise StateError(f"{path}: a checkpoint of another {name}: expected {expected}, found {found}")
    checkpoint.check_groups(parts.kinds["optimizer"], state["optimizer"], path)
    state = _placed(parts, state, path)
    for name, part in parts.kinds.items():  # the optimizer is first, and checks its state before it changes anything
        try:
            _load({name: part}, state)
        except ValueError as error:  # noqa: PERF203
            raise StateError(f"{path}: a checkpoint of another {name}: {error}") from error
    parts.model.load_state_dict(state.get("training_model", state["model"]))  # see Trainer.save
    _load(parts.shared, state)
    if len(state["ranks"]) == parts.ranks.world_size:
        _load(parts.own, state["ranks"][parts.ranks.rank])
    else:
        _load_from_ranks(parts, state["ranks"], path)


def _placed(parts: RunParts, state: dict[str, Any], path: str | os.PathLike[str]) -> dict[str, Any]:
    """The state with its tensors as they lie here: parts of them where the model is sharded."""
    placement = Placement(parts.model, parts.kinds["optimizer"])
    problem: Exception | None = None
    if any(isinstance(value, SavedTensor) for value in values(state)):
        try:
            state = sharded_checkpoint.load(Path(path), state, state["files"], placement)
        except (StateError, StorageError) as error:
            problem = error
    for found in filter(None, parts.ranks.gather(problem)):
        raise found
    placed: dict[str, Any] = change(state, placement.here)
    return placed


def _load_from_ranks(parts: RunParts, states: list[dict[str, Any]], path: str | os.PathLike[str]) -> None:
    rank, world_size = parts.ranks.rank, parts.ranks.world_size
    for name, part in parts.own.items():
        saved = [state[name] for state in states if state[name] is not None]
        if part is not None and saved:
            try:
                part.load_from_ranks(saved, rank, world_size)
            except StateError as error:
                raise StateError(
                    f"{path}: saved by {len(states)} ranks, there are {world_size} now: {error}"
                ) from error


def _load(parts: Mapping[str, Stateful | None], state: dict[str, Any]) -> None:
    for name, part in parts.items():
        if part is not None and state[name] is not None:
            part.load_state_dict(state[name])


def find_checkpoint(
    source: str | os.PathLike[str] | None, folder: CheckpointFolder | None, run_started: bool, ranks: Ranks
) -> LoadedCheckpoint | None:
    """The checkpoint from which a fit continues, or None. `source`: a path; "auto" for the newest readable checkpoint,
    unless the run has already started in this process; None for a new run. Raises ArgumentError if two runs would be
    mixed in one folder."""
    if source is None or (source == "auto" and run_started):
        if folder is not None and not run_started and folder.files():
            raise ArgumentError(f"{folder.folder} has checkpoints of another run: resume it, or empty it")
        return None
    if source != "auto":
        return checkpoint.read(source, ranks), source
    if folder is None:
        return None
    names = [path.name for path in folder.files()]
    if any(other != names for other in ranks.gather(names)):  # all: or some would wait for the others below
        raise StateError(
            f"the ranks see different checkpoints in {folder.folder}, here {names[:1] or 'none'}: give a "
            "checkpoint_dir that is the same folder for all of them"
        )
    newest = folder.newest()
    return None if newest is None else (newest[1], newest[0])
