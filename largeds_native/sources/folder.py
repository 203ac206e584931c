"""Images in folders."""

from __future__ import annotations

import hashlib
import os
from itertools import accumulate
from pathlib import Path

import numpy as np

from largeds_native.errors import ArgumentError, PackError
from largeds_native.sources.base import LABEL, Batch, IndexedSource, Indices, Source
from largeds_native.store.manifest import FieldSpec

# torchvision's IMG_EXTENSIONS. A name chooses which files are looked at; their bytes tell the format.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


def folder(path: str | os.PathLike[str]) -> Source:
    """Images in the folders of `path`, by the rules of torchvision's ImageFolder: each folder in it is a class, classes
    are numbered in sorted order, files are found at any depth and follow in sorted order, links to folders are
    followed (not in circles). A class without images keeps its number. Where no folder has an image, the images that
    lie in `path` itself are taken, without labels.

    Raises PackError when there is no image at all.
    """
    return FolderSource(Path(path))


class FolderSource(IndexedSource):
    """Keeps the paths as one string of bytes: a million of them take what their characters take."""

    def __init__(self, root: Path) -> None:
        self.root = self._top = os.path.abspath(root)
        self.description = f"folder {self.root}"
        try:
            with os.scandir(root) as entries:
                classes = sorted(entry.name for entry in entries if entry.is_dir())
        except OSError as error:
            raise ArgumentError(f"{root}: {error.strerror}: expected a folder of images") from error
        names: list[bytes] = []
        counts = [_collect(os.path.join(self._top, name), name, names) for name in classes]
        self._labels: np.ndarray[tuple[int], np.dtype[np.int64]] | None = None
        if names:
            keep = [i for i, (name, count) in enumerate(zip(classes, counts, strict=True)) if count or name[0] != "."]
            self.classes = tuple(classes[i] for i in keep)
            self._labels = np.repeat(np.arange(len(keep), dtype=np.int64), [counts[i] for i in keep])
        else:
            found, _ = _images_and_folders(self._top)
            names = [os.fsencode(name) for name in found]
        if not names:
            raise PackError(f"{root} has no image: expected files named {', '.join(EXTENSIONS)} in a folder a class")
        self._paths = b"".join(names)
        self._ends = np.fromiter(accumulate(map(len, names)), np.int64, len(names))

    @property
    def fields(self) -> dict[str, FieldSpec]:
        return {} if self._labels is None else {"label": LABEL}

    @property
    def count(self) -> int:
        return len(self._ends)

    def _names(self, indices: Indices) -> list[str]:
        begins = np.where(indices > 0, self._ends[indices - 1], 0).tolist()
        return [os.fsdecode(self._paths[a:b]) for a, b in zip(begins, self._ends[indices].tolist(), strict=True)]

    def take(self, indices: Indices) -> Batch:
        prefix = os.path.join(self._top, "")
        names = self._names(indices)
        fields = {} if self._labels is None else {"label": self._labels[indices]}
        return Batch([prefix + name for name in names], names, fields)

    def paths(self, indices: Indices) -> list[tuple[str, str]]:
        return [(name, os.path.join(self._top, name)) for name in self._names(indices)]

    def fingerprint(self) -> str:
        digest = hashlib.sha256(repr(self.classes).encode())
        digest.update(self._paths)
        digest.update(self._ends.tobytes())
        if self._labels is not None:
            digest.update(self._labels.tobytes())
        return digest.hexdigest()


def _images_and_folders(path: str) -> tuple[list[str], list[os.DirEntry[str]]]:
    """Sorted names of the images, and the folders, that lie in `path`; nothing for a folder that can't be read."""
    images, folders = [], []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir():
                    folders.append(entry)
                elif entry.name.lower().endswith(EXTENSIONS):
                    images.append(entry.name)
    except OSError as error:
        raise ArgumentError(f"{path} can't be listed: {error.strerror}") from error
    images.sort()
    return images, folders


def _collect(top: str, name: str, names: list[bytes]) -> int:
    """Appends the images below `top`, in the order of sorted(os.walk(top)), as paths that begin with `name`."""
    found: list[tuple[str, list[str]]] = []
    stack: list[tuple[str, str, tuple[tuple[int, int], ...]]] = [(top, name, (_identity(top),))]
    while stack:
        path, relative, ancestors = stack.pop()
        images, folders = _images_and_folders(path)
        if images:
            found.append((relative, images))
        for entry in folders:
            identity = _identity(entry.path)
            if identity not in ancestors:  # a link to a folder above would never end
                stack.append((entry.path, f"{relative}/{entry.name}", (*ancestors, identity)))
    before = len(names)
    for relative, images in sorted(found):
        names.extend(os.fsencode(f"{relative}/{image}") for image in images)
    return len(names) - before


def _identity(path: str) -> tuple[int, int]:
    state = os.stat(path)
    return state.st_dev, state.st_ino
