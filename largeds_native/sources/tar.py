"""Images in tar files, by WebDataset's convention. They are read from the tar file; nothing is unpacked."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from largeds_native._internal.arrays import FieldSpec
from largeds_native.errors import ArgumentError, PackError
from largeds_native.sources.base import LABEL, IndexedSource, Indices, Source, SourceBatch

IMAGES = ("jpg", "jpeg", "png", "webp", "ppm", "pgm", "bmp", "tif", "tiff")
MAX_LABEL_BYTES = 1 << 20


def tar(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> Source:
    """A source from uncompressed tar files. Members form one sample if their names are equal up to the first dot of the
    file name. The image is `.jpg`, `.png`, `.webp` or another format of Pillow. The label is in `.cls` (a whole number
    as text), or "label" or "cls" in `.json`. Samples come in the order of the files. Either all or none have a label.

    Raises ArgumentError, which names the file and the member, for a tar file that is cut off or compressed, and for a
    label that is not a whole number. Names of members are never used as paths.
    """
    files = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    return TarSource([os.path.abspath(path) for path in files])


class TarSource(IndexedSource):
    def __init__(self, files: list[str]) -> None:
        self._files = files
        self.description = f"tar {files[0]}" + (f" and {len(files) - 1} more" if len(files) > 1 else "")
        self._file_index: list[int] = []
        self._extents: list[tuple[int, int]] = []
        self._keys: list[str] = []
        labels: list[int | None] = []
        for index, path in enumerate(files):
            self._scan(index, path, labels)
        if not labels:
            raise PackError(f"{self.description} has no image")
        missing = [key for key, label in zip(self._keys, labels, strict=True) if label is None]
        if missing and len(missing) != len(labels):
            raise ArgumentError(
                f"{self.description}: sample {missing[0]!r} has no label (.cls or .json), while others have one"
            )
        self._labels = None if missing else np.asarray(labels, np.int64)

    def _scan(self, index: int, path: str, labels: list[int | None]) -> None:
        samples: dict[str, list[Any]] = {}  # key -> [extent, label]
        size = _size(path)
        try:
            with tarfile.open(path, "r:") as archive:
                for member in archive:
                    if not member.isfile():
                        continue
                    if member.offset_data + member.size > size:
                        raise ArgumentError(f"{path} is cut off in member {member.name!r}")
                    folder, _, base = member.name.rpartition("/")
                    stem, _, extension = base.partition(".")
                    sample = samples.setdefault(f"{folder}/{stem}" if folder else stem, [None, None])
                    extension = extension.lower().rpartition(".")[2]
                    if extension in IMAGES:
                        sample[0] = sample[0] or (member.offset_data, member.size)
                    elif extension in ("cls", "json"):
                        label = _label(archive, member, path, extension)
                        sample[1] = sample[1] if label is None else label
        except tarfile.TarError as error:
            raise ArgumentError(f"{path} is not an uncompressed tar file, or is cut off: {error}") from None
        for key, (extent, label) in samples.items():
            if extent is not None:
                self._keys.append(key)
                self._file_index.append(index)
                self._extents.append(extent)
                labels.append(label)

    @property
    def fields(self) -> dict[str, FieldSpec]:
        return {} if self._labels is None else {"label": LABEL}

    @property
    def count(self) -> int:
        return len(self._keys)

    def take(self, indices: Indices) -> SourceBatch:
        chosen = indices.tolist()
        items: list[Any] = [(self._files[self._file_index[i]], *self._extents[i]) for i in chosen]
        fields = {} if self._labels is None else {"label": self._labels[indices]}
        return SourceBatch(items, [self._name(i) for i in chosen], fields)

    def _name(self, i: int) -> str:
        return f"{os.path.basename(self._files[self._file_index[i]])}:{self._keys[i]}"

    def paths(self, indices: Indices) -> list[tuple[str, str]]:
        return [(self._name(i), self._files[self._file_index[i]]) for i in indices.tolist()]

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for i, extent in enumerate(self._extents):
            digest.update(f"{self._name(i)!r} {extent}\n".encode("utf-8", "surrogateescape"))
        if self._labels is not None:
            digest.update(self._labels.tobytes())
        return digest.hexdigest()


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError as error:
        raise ArgumentError(f"{path}: {error.strerror}: expected a tar file") from None


def _label(archive: tarfile.TarFile, member: tarfile.TarInfo, path: str, extension: str) -> int | None:
    """The label in a .cls or .json member; None for a .json without one."""
    where = f"{path}: member {member.name!r}"
    if member.size > MAX_LABEL_BYTES:
        raise ArgumentError(f"{where}: expected a label, found {member.size:,} bytes")
    stream = archive.extractfile(member)
    data = b"" if stream is None else stream.read()
    if extension == "json":
        try:
            tree = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ArgumentError(f"{where} is not JSON: {error}") from None
        value = tree.get("label", tree.get("cls")) if isinstance(tree, dict) else tree
        if value is None:
            return None
        if type(value) is int:
            return value
        raise ArgumentError(f"{where}: expected a label that is a whole number, found {str(value)[:80]!r}")
    try:
        return int(data.decode("ascii").strip())
    except ValueError:
        raise ArgumentError(f"{where}: expected a whole number, found {data[:80]!r}") from None
