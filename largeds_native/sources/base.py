"""What a source is."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from largeds_native.errors import ArgumentError
from largeds_native.store.manifest import FieldSpec
from largeds_native.store.npy import Array

# A path, encoded bytes, a part of a file (path, offset, length), or uint8 pixels (H, W, C).
Item = str | bytes | tuple[str, int, int] | Array
LABEL = FieldSpec(np.dtype("<i8"))


@dataclass
class Batch:
    """Consecutive samples: what to decode, what to call them, and their fields' values."""

    items: list[Item]
    names: list[str]
    fields: dict[str, Array] = field(default_factory=dict)


class Source(ABC):
    """Samples in a fixed order.

    `classes` are the names of the label's numbers, `fields` the fields that every sample has. `description` says in
    a few words where the images come from; `root` is the folder that names are relative to, where there is one.
    """

    classes: tuple[str, ...] = ()
    description: str = ""
    root: str | None = None

    @property
    @abstractmethod
    def fields(self) -> dict[str, FieldSpec]: ...

    @property
    @abstractmethod
    def count(self) -> int | None:
        """Number of samples; None when it is known only at the end."""

    @abstractmethod
    def read(self, start: int, stop: int) -> Iterator[Batch]:
        """Samples [start, stop) in batches; fewer when `count` is None and the source has ended."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Changes when the list of samples does; contents of files are not read."""

    def changed_since(self, start: int, stop: int, time_ns: int) -> list[str]:
        """Names of samples in [start, stop) whose files changed after `time_ns`, where that can be told."""
        return []


def as_source(source: Any) -> Source:
    """A source from whatever `pack` takes."""
    from largeds_native.sources.arrays import arrays
    from largeds_native.sources.folder import folder

    if isinstance(source, Source):
        return source
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if path.is_dir():
            return folder(path)
        if not path.exists():
            raise ArgumentError(f"{path} does not exist: expected a folder of images, a manifest, or a tar file")
        raise ArgumentError(f"{path}: expected a folder of images")
    if isinstance(source, tuple) and len(source) == 2:
        return arrays(*source)
    raise ArgumentError(
        "expected a path, an (images, labels) pair of arrays, a torch Dataset, or a source of "
        f"largeds_native.sources; found {type(source).__name__}"
    )
