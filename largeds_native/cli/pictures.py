"""Files that commands write for people to look at: whole or not at all, and an older one of the same name goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from largeds_native.errors import ArgumentError
from largeds_native.interchange.new_file import storage_errors
from largeds_native.store.format.files import atomic_write_bytes


def checked(path: Path, kinds: Sequence[str]) -> Path:
    """The path, if a file of one of these kinds (".png") can be there; asked before the work begins."""
    if path.suffix.lower() not in kinds:
        raise ArgumentError(f"{path}: expected a name that ends in {' or '.join(kinds)}")
    if path.is_dir():
        raise ArgumentError(f"{path} is a folder: name a file to write")
    if not path.absolute().parent.is_dir():
        raise ArgumentError(f"{path.absolute().parent} is not a folder: expected where to write {path.name}")
    return path


def write_picture(path: Path, data: bytes) -> None:
    with storage_errors(path):
        atomic_write_bytes(path, data)
