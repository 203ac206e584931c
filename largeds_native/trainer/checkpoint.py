"""Checkpoints that survive a kill at any moment: written under a temporary name, synced, renamed."""

from __future__ import annotations

import os
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from largeds_native.errors import ArgumentError, StateError, StorageError
from largeds_native.store.format.files import atomic_write, sync

FORMAT = "largeds-checkpoint"
VERSION = 1
_NAME = re.compile(r"step-(\d{10})\.pt")


class CheckpointFolder:
    """A folder with the last `keep_last` checkpoints (`step-*.pt`) and the best one (`best.pt`)."""

    def __init__(self, folder: str | os.PathLike[str], keep_last: int = 2) -> None:
        if keep_last < 1:
            raise ArgumentError(f"expected keep_last of at least 1, found {keep_last}")
        self.folder, self.keep_last = Path(folder), keep_last

    def files(self) -> list[Path]:
        """All checkpoints, the newest first."""
        if not self.folder.is_dir():
            return []
        found = [path for path in self.folder.iterdir() if _NAME.fullmatch(path.name)]
        return sorted(found, key=lambda path: path.name, reverse=True)

    def save(self, state: dict[str, Any], step: int, *, best: bool = False) -> Path:
        """Write the checkpoint of this step; with `best`, make it `best.pt` too; delete those no longer kept."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{step:010d}.pt"
        write(path, state)
        if best:
            self._mark_best(path)
        for old in self.files()[self.keep_last :]:
            old.unlink(missing_ok=True)
        return path

    def _mark_best(self, path: Path) -> None:
        temporary = self.folder / ".best.tmp"
        temporary.unlink(missing_ok=True)
        try:
            os.link(path, temporary)  # a second name for the same bytes
        except OSError:  # a file system without hard links
            shutil.copyfile(path, temporary)
        os.replace(temporary, self.folder / "best.pt")
        sync(self.folder)

    def newest(self) -> tuple[Path, dict[str, Any]] | None:
        """The newest readable checkpoint, or None. An unreadable one is skipped with a warning."""
        for path in self.files():
            try:
                return path, read(path)
            except StateError as error:  # noqa: PERF203
                warnings.warn(f"skipped a checkpoint that can't be read: {error}", stacklevel=2)
        return None


def write(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; `path` never exists with only a part of it."""
    whole = plain(state, "")
    try:
        with atomic_write(path) as file:
            torch.save({"format": FORMAT, "version": VERSION, **whole}, file)
    except (OSError, RuntimeError) as error:
        # torch's writer raises a RuntimeError, and the file's OSError is its context
        refused = error if isinstance(error, OSError) else error.__context__
        if not isinstance(refused, OSError):
            raise
        raise StorageError(f"can't write the checkpoint {path}: {refused}") from error


def plain(value: Any, name: str) -> Any:
    """The state with numpy scalars as Python numbers; ArgumentError for what `weights_only=True` would not load."""
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, Tensor)):
        return value
    if isinstance(value, dict):  # also a Counter (MultiStepLR's milestones) and an OrderedDict
        return {plain(key, name): plain(item, f"{name}[{key!r}]") for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        items = [plain(item, f"{name}[{i}]") for i, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items) if isinstance(value, tuple) else set(items)
    if isinstance(value, (torch.dtype, torch.device)):
        return value
    raise ArgumentError(
        f"state{name}: a checkpoint holds tensors and plain values, found {type(value).__name__}, "
        "which can't be loaded without running code"
    )


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Load a checkpoint to the CPU, without running code from it.

    Raises StateError if it is cut off, foreign, or of another version.
    """
    try:
        with sets_allowed():
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise StateError(f"{path}: no such checkpoint") from None
    except Exception as error:  # torch raises RuntimeError, EOFError, UnpicklingError, KeyError and more here
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise StateError(f"{path}: not a complete checkpoint: {reason}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise StateError(f"{path}: not a checkpoint of largeds_native")
    if state["version"] != VERSION:
        raise StateError(f"{path}: a checkpoint of version {state['version']}, this release reads {VERSION}")
    return state


@contextmanager
def sets_allowed() -> Iterator[None]:
    """torch 2.4 refuses to load a `set` unless it is among the safe globals; later versions load it."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals([set])
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def check_model(model: nn.Module, saved: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Raises StateError unless the names and shapes of the saved weights are those of this model."""
    own = {name: tuple(value.shape) for name, value in model.state_dict().items() if hasattr(value, "shape")}
    other = {name: tuple(value.shape) for name, value in saved.items() if hasattr(value, "shape")}
    for name in [*own, *other]:
        if own.get(name) != other.get(name):
            expected, found = (str(shapes.get(name, "nothing")) for shapes in (own, other))
            raise StateError(f"{path}: a checkpoint of another model: {name} is {expected} here, {found} in the file")
