"""The folder of a run's checkpoints: which are kept, which is the best, and which is the newest that can be read."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from largeds_native.errors import StateError, StorageError
from largeds_native.store.format.files import atomic_write, sync
from largeds_native.trainer import parts, sharded_checkpoint
from largeds_native.trainer.checkpoint import read
from largeds_native.trainer.checkpoint_file import check_hash, write
from largeds_native.trainer.checkpoint_names import (
    age,
    free_name,
    is_checkpoint,
    remove,
    second_folder,
    second_name,
)
from largeds_native.trainer.counts import check_count
from largeds_native.trainer.ranks import Ranks


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
            found = [path for path in self.folder.iterdir() if is_checkpoint(path)]
        return sorted(found, key=age, reverse=True)

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
                second_name(path, free_name(path))
        write(path, state)
        with self._refused():
            self._after_save(path, [other for other in abandoned if other != path], best)
        if abandoned:
            self._say_abandoned(abandoned)
        return path

    def _after_save(self, path: Path, abandoned: list[Path], best: bool) -> None:
        self._whole[path.name] = True
        for other in abandoned:
            other.rename(free_name(other))
        self._branch = None
        if best and path.is_dir():
            self._become_best(second_folder(path, self._unused(path.name.replace("step-", "best-", 1))))
        elif best:
            second_name(path, self.folder / "best.pt")
        self._delete_old(path)

    def _abandoned(self) -> list[Path]:
        """Checkpoints of later steps than that from which the run went on. Those known to be damaged stay."""
        if self._branch is None:
            return []
        first = self._branch
        return [path for path in self.files() if age(path)[0] > first and self._whole.get(path.name, True)]

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
            earlier = path != newest and age(path)[0] == age(newest)[0]  # of the same step
            if kept == self.keep_last or earlier:
                remove(path)
            else:
                kept += self._is_whole(path)

    def _is_whole(self, path: Path) -> bool:
        """Each file is read at most once, and those of this process never."""
        if path.name not in self._whole:
            try:
                if path.is_dir():
                    read(path)
                else:
                    check_hash(path)
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
                    remove(left)
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
                remove(other)

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
