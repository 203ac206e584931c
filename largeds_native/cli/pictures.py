"""Picture files of commands: written completely or not at all, replacing an older file of the same name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from largeds_native.errors import ArgumentError


def check_picture_path(path: Path, suffixes: Sequence[str]) -> Path:
    """Raises ArgumentError unless a file with one of these suffixes can be written to `path`, else returns it."""
    if path.suffix.lower() not in suffixes:
        raise ArgumentError(f"{path}: expected a name that ends in {' or '.join(suffixes)}")
    if path.is_dir():
        raise ArgumentError(f"{path} is a folder: expected a file to write")
    if not path.absolute().parent.is_dir():
        raise ArgumentError(f"{path.absolute().parent} is not a folder: expected where to write {path.name}")
    return path


def write_picture(path: Path, data: bytes) -> None:
    from largeds_native.interchange.new_file import storage_errors  # here, as these import torch
    from largeds_native.store.format.files import atomic_write_bytes

    with storage_errors(path):
        atomic_write_bytes(path, data)
