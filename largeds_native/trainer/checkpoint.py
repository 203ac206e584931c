"""Checkpoints that survive a kill at any moment: written under a temporary name, synced, renamed.

Note [Hash]
torch's reader doesn't look at the checksums in its zip files, so a flipped byte would go into the weights. A hash of
all bytes before it stands at the file's end, as the zip file's comment: `torch.load` reads the file as any other.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import shutil
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

from largeds_native.errors import ArgumentError, StateError, StorageError
from largeds_native.store.format.files import atomic_write, sync
from largeds_native.trainer.counts import check_count

FORMAT = "largeds-checkpoint"
VERSION = 1
_MARK = b"largeds blake2b "
_COMMENT = len(_MARK) + 64  # and the hash in hexadecimal digits
_NAME = re.compile(r"step-(\d{10})\.pt")


class CheckpointFolder:
    """A folder with the last `keep_last` checkpoints (`step-*.pt`) and the best one (`best.pt`).

    Damaged checkpoints don't count among the last. See `continue_from` for those of an abandoned branch.
    """

    def __init__(self, folder: str | os.PathLike[str], keep_last: int = 2) -> None:
        check_count("keep_last", keep_last)
        self.folder, self.keep_last = Path(folder), keep_last
        self._whole: dict[str, bool] = {}  # by name: what is known of the files
        self._branch: int | None = None  # the step from which the run goes on, until its next checkpoint

    def prepare(self) -> None:
        """Make the folder. Raises StorageError unless files can be written there."""
        with self._refused():
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(self.folder / ".test") as file:
                file.write(b"test")
            (self.folder / ".test").unlink()

    def files(self) -> list[Path]:
        """All checkpoints, the newest first."""
        with self._refused():
            if not self.folder.is_dir():
                return []
            found = [path for path in self.folder.iterdir() if _NAME.fullmatch(path.name)]
        return sorted(found, key=lambda path: path.name, reverse=True)

    def continue_from(self, step: int) -> None:
        """The run goes on from this step: the next `save` renames checkpoints of later steps, which belong to a branch
        that is given up, to `abandoned-step-*.pt`. Those are never read nor deleted."""
        self._branch = step

    def save(self, state: dict[str, Any], step: int, *, best: bool = False) -> Path:
        """Write the checkpoint of this step; with `best`, make it `best.pt` too; delete those no longer kept."""
        with self._refused():
            self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{step:010d}.pt"
        abandoned = self._abandoned()
        with self._refused():
            if path in abandoned:  # a second name, before the first one becomes that of the new file
                _second_name(path, _free_name(path))
        write(path, state)
        self._whole[path.name] = True
        with self._refused():
            for other in abandoned:
                if other != path:
                    other.rename(_free_name(other))
            self._branch = None
            if best:
                _second_name(path, self.folder / "best.pt")
            self._delete_old()
        if abandoned:
            self._say_abandoned(abandoned)
        return path

    def _abandoned(self) -> list[Path]:
        """Checkpoints of later steps than that from which the run went on. Those known to be damaged stay."""
        if self._branch is None:
            return []
        first = f"step-{self._branch:010d}.pt"
        return [path for path in self.files() if path.name > first and self._whole.get(path.name, True)]

    def _say_abandoned(self, files: list[Path]) -> None:
        names = ", ".join(path.name for path in files[:5]) + (f" and {len(files) - 5} more" if len(files) > 5 else "")
        warnings.warn(
            f"{self.folder}: the run was continued from an earlier step than that of {names}: their names now begin "
            "with abandoned-. Delete them if you don't need them",
            stacklevel=4,
        )

    def _delete_old(self) -> None:
        kept = 0
        for path in self.files():
            if kept == self.keep_last:
                path.unlink(missing_ok=True)
            else:
                kept += self._is_whole(path)

    def _is_whole(self, path: Path) -> bool:
        """Each file is read at most once, and those of this process never."""
        if path.name not in self._whole:
            try:
                _check_hash(path)
                self._whole[path.name] = True
            except (StateError, OSError):
                self._whole[path.name] = False
        return self._whole[path.name]

    @contextmanager
    def _refused(self) -> Iterator[None]:
        """StorageError for what the operating system refuses."""
        try:
            yield
        except StorageError:
            raise
        except OSError as error:
            raise StorageError(
                f"checkpoint_dir {self.folder}: can't keep checkpoints there: {error}. Give a folder that can be "
                "written to"
            ) from error

    def save_best(self, state: dict[str, Any]) -> None:
        """Write a `best.pt` that is no checkpoint's copy."""
        write(self.folder / "best.pt", state)

    def newest(self) -> tuple[Path, dict[str, Any]] | None:
        """The newest whole checkpoint; one warning names those that were passed over. None: there are none at all.

        Raises StateError if there are checkpoints, and none can be read.
        """
        damaged: list[str] = []
        for path in self.files():
            try:
                state = read(path)
            except StateError as error:
                self._whole[path.name] = False
                damaged.append(str(error))
                continue
            self._whole[path.name] = True
            if damaged:
                warnings.warn(f"{path.name} is used, checkpoints after it are not: {'; '.join(damaged)}", stacklevel=2)
            return path, state
        if damaged:
            best = self.folder / "best.pt"
            advice = f'resume="{best}" if that is whole, or ' if best.exists() else ""
            raise StateError(
                f"{self.folder}: no checkpoint can be read: {'; '.join(damaged)}. Go on by {advice}another "
                "checkpoint_dir, or empty this one to begin anew"
            )
        return None


def _second_name(path: Path, name: Path) -> None:
    """The same bytes under another name, which replaces a file that has it."""
    temporary = name.with_name(f".{name.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, temporary)
    os.replace(temporary, name)
    sync(name.parent)


def _free_name(path: Path) -> Path:
    """Of an abandoned checkpoint: one that no file has."""
    names = itertools.chain([f"abandoned-{path.name}"], (f"abandoned-{path.stem}-{i}.pt" for i in itertools.count(2)))
    return next(free for name in names if not (free := path.with_name(name)).exists())


def write(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; `path` never exists with only a part of it."""
    whole = plain(state, "")
    try:
        with atomic_write(path) as file:
            torch.save({"format": FORMAT, "version": VERSION, **whole}, file)
            _append_hash(file)
    except (OSError, RuntimeError) as error:
        # torch's writer raises a RuntimeError, and the file's OSError is its context
        refused = error if isinstance(error, OSError) else error.__context__
        if not isinstance(refused, OSError):
            raise
        raise StorageError(f"can't write the checkpoint {path}: {refused}") from error


def _append_hash(file: BinaryIO) -> None:
    """Make the hash of the file its zip comment, whose length is the last thing in a zip file. See Note [Hash]."""
    file.seek(-2, os.SEEK_END)
    file.write(struct.pack("<H", _COMMENT))
    file.flush()
    with open(file.name, "rb") as written:
        file.write(_MARK + _hash(written, file.tell()))


def _hash(file: BinaryIO, size: int) -> bytes:
    """Of the file's first `size` bytes, as hexadecimal digits."""
    digest, left = hashlib.blake2b(digest_size=32), size
    while left and (data := file.read(min(left, 1 << 20))):
        digest.update(data)
        left -= len(data)
    return digest.hexdigest().encode()


def _check_hash(path: str | os.PathLike[str]) -> None:
    """StateError unless the file is as it was written."""
    with open(path, "rb") as file:
        size = max(file.seek(0, os.SEEK_END) - _COMMENT, 0)
        file.seek(size)
        comment = file.read()
        if not comment.startswith(_MARK):
            raise StateError(f"{path}: not a complete checkpoint: its end, with the hash of its bytes, is missing")
        file.seek(0)
        if _MARK + _hash(file, size) != comment:
            raise StateError(f"{path}: not a complete checkpoint: its bytes are not those that were written")


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

    Raises StateError if it is missing, cut off, changed by a single bit, foreign, or of another version; StorageError
    if the operating system refuses it.
    """
    try:
        _check_hash(path)
        with sets_allowed():
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise StateError(f"{path}: no such checkpoint") from None
    except (StateError, MemoryError):
        raise
    except OSError as error:
        raise StorageError(f"can't read the checkpoint {path}: {error}") from error
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
