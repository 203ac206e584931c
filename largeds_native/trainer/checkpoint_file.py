"""One checkpoint in one file, that survives a kill at any moment: written under a temporary name, synced, renamed.

Note [Hash]
torch's reader doesn't look at the checksums in its zip files, so a flipped byte would go into the weights. A hash of
all bytes before it stands at the file's end, as the zip file's comment: `torch.load` reads the file as any other.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from largeds_native.errors import ArgumentError, StateError, StorageError
from largeds_native.store.format.files import atomic_write

FORMAT = "largeds-checkpoint"
VERSION = 1
_MARK = b"largeds blake2b "
_COMMENT = len(_MARK) + 64  # and the hash in hexadecimal digits


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


def check_hash(path: str | os.PathLike[str]) -> None:
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


def read_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The state in the file, on the CPU, without running code from it. StateError if it is missing, damaged or foreign,
    StorageError if the operating system refuses it."""
    try:
        check_hash(path)
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
