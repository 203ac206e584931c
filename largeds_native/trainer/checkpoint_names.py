"""The names of checkpoints in their folder, and how a file or folder gets another one."""

from __future__ import annotations

import itertools
import os
import re
import shutil
from pathlib import Path

from largeds_native.store.format.files import sync

_NAME = re.compile(r"step-(\d{10})(?:\.pt|-(\d{1,9}))?")  # a file, or a folder of a sharded model


def is_checkpoint(path: Path) -> bool:
    """Whether it has the name of one of a step."""
    return _NAME.fullmatch(path.name) is not None


def age(path: Path) -> tuple[int, int]:
    """The step of a checkpoint, and which one of that step it is."""
    found = _NAME.fullmatch(path.name)
    return (int(found[1]), int(found[2] or 1)) if found else (-1, 0)


def remove(path: Path) -> None:
    """Delete a checkpoint, a folder under another name, so that no part of it is ever taken for a whole one."""
    if path.is_dir():
        hidden = path if path.name.startswith(".") else path.with_name(f".{path.name}.tmp")
        if hidden != path:
            shutil.rmtree(hidden, ignore_errors=True)
            path.rename(hidden)
        shutil.rmtree(hidden)
    else:
        path.unlink(missing_ok=True)


def second_folder(path: Path, name: Path) -> Path:
    """A folder with the same files under another name, which no folder has; its name."""
    temporary = name.with_name(f".{name.name}.tmp")
    temporary.mkdir()
    for file in path.iterdir():
        second_name(file, temporary / file.name)
    temporary.rename(name)
    sync(name.parent)
    return name


def second_name(path: Path, name: Path) -> None:
    """The same bytes under another name, which replaces a file that has it."""
    temporary = name.with_name(f".{name.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, temporary)
    os.replace(temporary, name)
    sync(name.parent)


def free_name(path: Path) -> Path:
    """Of an abandoned checkpoint: one that no file has."""
    numbered = (f"abandoned-{path.stem}-{i}{path.suffix}" for i in itertools.count(2))
    names = itertools.chain([f"abandoned-{path.name}"], numbered)
    return next(free for name in names if not (free := path.with_name(name)).exists())
