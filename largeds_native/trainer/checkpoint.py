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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

from largeds_native.errors import ArgumentError, StateError, StorageError
from largeds_native.store.format.files import atomic_write, sync
from largeds_native.trainer import parts, sharded_checkpoint
from largeds_native.trainer.counts import check_count
from largeds_native.trainer.ranks import Ranks

FORMAT = "largeds-checkpoint"
VERSION = 1
_MARK = b"largeds blake2b "
_COMMENT = len(_MARK) + 64  # and the hash in hexadecimal digits
_NAME = re.compile(r"step-(\d{10})(?:\.pt|-(\d{1,9}))?")  # a file, or a folder of a sharded model


class CheckpointFolder:
    """A folder with the last `keep_last` checkpoints (`step-*.pt`) and the best one (`best.pt`).

    Damaged checkpoints don't count among the last. See `continue_from` for those of an abandoned branch. The
    checkpoints of a sharded model are folders, `step-*` and `best-*`, to which all ranks write.
    """

    def __init__(self, folder: str | os.PathLike[str], keep_last: int = 2, ranks: Ranks | None = None) -> None:
        check_count("keep_last", keep_last)
        self.folder, self.keep_last = Path(folder), keep_last
        self._ranks = ranks
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
        return sorted(found, key=_age, reverse=True)

    def continue_from(self, step: int) -> None:
        """The run goes on from this step: the next `save` renames checkpoints of later steps, which belong to a branch
        that is given up, to `abandoned-step-*.pt`. Those are never read nor deleted."""
        self._branch = step

    def save(self, state: dict[str, Any], step: int, *, best: bool = False) -> Path:
        """Write the checkpoint of this step; with `best`, make it the best one too; delete those no longer kept. If the
        state has tensors of which each rank has a part, all ranks call it."""
        if parts.has_parts(state):
            return self._save_folder(state, step, best)
        with self._refused():
            self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{step:010d}.pt"
        abandoned = self._abandoned()
        with self._refused():
            if path in abandoned:  # a second name, before the first one becomes that of the new file
                _second_name(path, _free_name(path))
        write(path, state)
        with self._refused():
            self._after_save(path, [other for other in abandoned if other != path], best)
        if abandoned:
            self._say_abandoned(abandoned)
        return path

    def _after_save(self, path: Path, abandoned: list[Path], best: bool) -> None:
        self._whole[path.name] = True
        for other in abandoned:
            other.rename(_free_name(other))
        self._branch = None
        if best and path.is_dir():
            self._become_best(_second_folder(path, self._unused(path.name.replace("step-", "best-", 1))))
        elif best:
            _second_name(path, self.folder / "best.pt")
        self._delete_old(path)

    def _abandoned(self) -> list[Path]:
        """Checkpoints of later steps than that from which the run went on. Those known to be damaged stay."""
        if self._branch is None:
            return []
        first = self._branch
        return [path for path in self.files() if _age(path)[0] > first and self._whole.get(path.name, True)]

    def _say_abandoned(self, files: list[Path]) -> None:
        names = ", ".join(path.name for path in files[:5]) + (f" and {len(files) - 5} more" if len(files) > 5 else "")
        warnings.warn(
            f"{self.folder}: the run was continued from an earlier step than that of {names}: their names now begin "
            "with abandoned-. Delete them if you don't need them",
            stacklevel=4,
        )

    def _delete_old(self, newest: Path) -> None:
        kept = 0
        for path in self.files():
            earlier = path != newest and _age(path)[0] == _age(newest)[0]  # of the same step
            if kept == self.keep_last or earlier:
                _remove(path)
            else:
                kept += self._is_whole(path)

    def _is_whole(self, path: Path) -> bool:
        """Each file is read at most once, and those of this process never."""
        if path.name not in self._whole:
            try:
                if path.is_dir():
                    read(path)
                else:
                    _check_hash(path)
                self._whole[path.name] = True
            except (StateError, StorageError, OSError):
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
        """Write the best checkpoint, which is no other one's copy."""
        if parts.has_parts(state):
            step = int(state["progress"]["step"])
            self._write_folder(f"best-{step:010d}", state, self._become_best)
        else:
            write(self.folder / "best.pt", state)

    # ---- of sharded models: folders -----------------------------------------------------------------------------

    def _save_folder(self, state: dict[str, Any], step: int, best: bool) -> Path:
        def finish(path: Path) -> None:
            abandoned = [other for other in self._abandoned() if other != path]
            self._after_save(path, abandoned, best)
            if abandoned:
                self._say_abandoned(abandoned)

        return self._write_folder(f"step-{step:010d}", state, finish)

    def _write_folder(self, name: str, state: dict[str, Any], finish: Callable[[Path], None]) -> Path:
        """All ranks write; rank 0 makes it a checkpoint, and calls `finish`. StorageError on all ranks."""
        ranks = self._ranks or Ranks()
        temporary = self.folder / f".{name}.tmp"
        rest, tensors = sharded_checkpoint.take_out(state)

        def begin() -> Path:
            with self._refused():
                for left in [*self.folder.glob(".step-*.tmp"), *self.folder.glob(".best-*.tmp")]:
                    _remove(left)
                temporary.mkdir(parents=True)
                return self._unused(name)

        def end() -> None:
            with self._refused():
                sharded_checkpoint.check_all_seen(temporary, hashes)
                write(temporary / sharded_checkpoint.RUN, {**rest, "files": hashes})
                temporary.rename(path)
                sync(self.folder)
                finish(path)

        path: Path = ranks.on_first(begin)
        hashes = sharded_checkpoint.write_parts(temporary, tensors, ranks)
        ranks.on_first(end)
        return path

    def _unused(self, name: str) -> Path:
        """A folder is never replaced: a second one of the same step has a number behind its name."""
        base = name[: len("step-") + 10]
        names = itertools.chain([base], (f"{base}-{i}" for i in itertools.count(2)))
        return next(free for found in names if not (free := self.folder / found).exists())

    def _become_best(self, path: Path) -> None:
        """The folder is the best checkpoint now; the one before is removed."""
        for other in self.folder.glob("best-*"):
            if other != path and other.is_dir():
                _remove(other)

    # ---- reading ------------------------------------------------------------------------------------------------

    def newest(self) -> tuple[Path, dict[str, Any]] | None:
        """The newest whole checkpoint; one warning names those that were passed over. None: there are none at all.

        Raises StateError if there are checkpoints, and none can be read.
        """
        damaged: list[str] = []
        for path in self.files():
            try:
                state = read(path, self._ranks)
            except StateError as error:
                self._whole[path.name] = False
                damaged.append(str(error))
                continue
            self._whole[path.name] = True
            if damaged:
                warnings.warn(f"{path.name} is used, checkpoints after it are not: {'; '.join(damaged)}", stacklevel=2)
            return path, state
        if damaged:
            bests = [path for path in sorted(self.folder.glob("best*")) if path.suffix == ".pt" or path.is_dir()]
            advice = f'resume="{bests[-1]}" if that is whole, or ' if bests else ""
            raise StateError(
                f"{self.folder}: no checkpoint can be read: {'; '.join(damaged)}. Go on by {advice}another "
                "checkpoint_dir, or empty this one to begin anew"
            )
        return None


def _age(path: Path) -> tuple[int, int]:
    """The step of a checkpoint, and which one of that step it is."""
    found = _NAME.fullmatch(path.name)
    return (int(found[1]), int(found[2] or 1)) if found else (-1, 0)


def _remove(path: Path) -> None:
    """Delete a checkpoint, a folder under another name, so that no part of it is ever taken for a whole one."""
    if path.is_dir():
        hidden = path if path.name.startswith(".") else path.with_name(f".{path.name}.tmp")
        if hidden != path:
            shutil.rmtree(hidden, ignore_errors=True)
            path.rename(hidden)
        shutil.rmtree(hidden)
    else:
        path.unlink(missing_ok=True)


def _second_folder(path: Path, name: Path) -> Path:
    """A folder with the same files under another name, which no folder has; its name."""
    temporary = name.with_name(f".{name.name}.tmp")
    temporary.mkdir()
    for file in path.iterdir():
        _second_name(file, temporary / file.name)
    temporary.rename(name)
    sync(name.parent)
    return name


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
    numbered = (f"abandoned-{path.stem}-{i}{path.suffix}" for i in itertools.count(2))
    names = itertools.chain([f"abandoned-{path.name}"], numbered)
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


def read(path: str | os.PathLike[str], ranks: Ranks | None = None) -> dict[str, Any]:
    """Load a checkpoint to the CPU, without running code from it. The tensors of a sharded model are only described,
    by `parts.SavedTensor`; with `ranks`, all ranks read it together, and each verifies some of its files.

    Raises StateError if it is missing, cut off, changed by a single bit, foreign, or of another version; StorageError
    if the operating system refuses it.
    """
    if not Path(path).is_dir():
        return _read_file(path)
    state = _read_file(Path(path, sharded_checkpoint.RUN))
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


def _read_file(path: str | os.PathLike[str]) -> dict[str, Any]:
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
