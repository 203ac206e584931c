"""Images in folders."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from largeds_native._internal.arrays import FieldSpec
from largeds_native.errors import ArgumentError, PackError, StorageError
from largeds_native.sources.base import LABEL, IndexedSource, Indices, SourceBatch
from largeds_native.sources.listing import OTHERS

# torchvision's IMG_EXTENSIONS. The extension selects files; their first bytes determine the format.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_OTHER = re.compile(rb"\.(%s)\0" % "|".join(ending[1:] for ending in OTHERS).encode(), re.IGNORECASE)
# folders of these names have classes in them, and are none
PARTS = frozenset(("train", "training", "val", "valid", "validation", "test", "testing"))


class FolderSource(IndexedSource):
    """Keeps all paths in one bytes object, each followed by a 0 byte, so that a million paths take no more memory than
    their characters."""

    def __init__(self, root: Path) -> None:
        self.root = self.walked = self._top = os.path.abspath(root)
        left_out: Counter[str] = Counter()
        self.description = f"folder {self.root}"
        flat, folders = _list(self._top, "", left_out, f"{root}: expected a folder of images")
        blocks = {name: _collect(os.path.join(self._top, name), name, left_out) for name in folders}
        self._take_classes(blocks, flat, left_out)
        if not self._paths:
            raise PackError(f"{root} has no image: {_tars(root)}{expected_images(left_out)}")

    def _take_classes(self, folders: Mapping[str, bytes], flat: bytes, left_out: Counter[str]) -> None:
        """The paths in each folder, and those directly in the root."""
        classes = sorted(folders)
        found = [folders[name] for name in classes]
        self._labels: np.ndarray[tuple[int], np.dtype[np.int64]] | None = None
        if any(found):
            counts = [block.count(b"\0") for block in found]
            keep = [i for i, (name, count) in enumerate(zip(classes, counts, strict=True)) if count or name[0] != "."]
            self.classes = tuple(classes[i] for i in keep)
            self._labels = np.repeat(np.arange(len(keep), dtype=np.int64), [counts[i] for i in keep])
            left_out["beside the folders of classes"] += flat.count(b"\0")
            notes = _note_of_classes(self.classes)
        else:
            found = [flat]
            notes = ["no labels: the images lie in the folder itself, not in one folder per class"]
        self._paths = b"".join(found)
        if left_out.total():
            words = ", ".join(f"{n:,} {what}" for what, n in left_out.most_common() if n)
            notes.append(f"images left out: {words}")
        self.notes = tuple(notes)
        self._ends = np.flatnonzero(np.frombuffer(self._paths, np.uint8) == 0) + 1

    @property
    def fields(self) -> dict[str, FieldSpec]:
        return {} if self._labels is None else {"label": LABEL}

    @property
    def count(self) -> int:
        return len(self._ends)

    def _names(self, indices: Indices) -> list[str]:
        if len(indices) and indices[-1] - indices[0] == len(indices) - 1 and (np.diff(indices) == 1).all():
            begin = int(self._ends[indices[0] - 1]) if indices[0] else 0
            return os.fsdecode(self._paths[begin : int(self._ends[indices[-1]]) - 1]).split("\0")
        begins = np.where(indices > 0, self._ends[indices - 1], 0).tolist()
        return [os.fsdecode(self._paths[a : b - 1]) for a, b in zip(begins, self._ends[indices].tolist(), strict=True)]

    def take(self, indices: Indices) -> SourceBatch:
        prefix = os.path.join(self._top, "")
        names = self._names(indices)
        fields = {} if self._labels is None else {"label": self._labels[indices]}
        return SourceBatch([prefix + name for name in names], names, fields)

    def paths(self, indices: Indices) -> list[tuple[str, str]]:
        return [(name, os.path.join(self._top, name)) for name in self._names(indices)]

    def fingerprint(self) -> str:
        digest = hashlib.sha256(repr(self.classes).encode())
        digest.update(self._paths)
        if self._labels is not None:
            digest.update(self._labels.tobytes())
        return digest.hexdigest()


def _note_of_classes(classes: Sequence[str]) -> list[str]:
    """A note if the folders are the parts of a data set, each with folders of classes."""
    if not PARTS.issuperset(classes):
        return []
    return [f"the classes are {', '.join(classes)}: to pack one of these parts, give its folder"]


def expected_images(left_out: Counter[str]) -> str:
    """In words, where there are none."""
    others = "".join(f"; found {n:,} {ending}" for ending, n in left_out.most_common() if n)
    return f"expected files named {', '.join(EXTENSIONS)} in a folder a class{others}"


def _tars(root: Path) -> str:
    """Where a folder without images holds tar shards, how to pack these."""
    found = sorted(root.rglob("*.tar"))
    if not found:
        return ""
    return f"its {len(found):,} tar files are packed by a pattern, '{found[0].parent / '*.tar'}'; of a folder, "


def _list(path: str, prefix: str, left_out: Counter[str], expected: str = "") -> tuple[bytes, list[str]]:
    """The folder's images, sorted, each with `prefix` before and a 0 byte after its name; and its subfolders.
    `left_out` counts images of other formats by their ending."""
    from largeds_native import _C

    try:
        block, _, folders, is_sorted = _C.list_folder(path, EXTENSIONS + OTHERS)
    except StorageError as error:
        raise ArgumentError(f"{expected}: {error}" if expected else str(error)) from None
    others = [f".{ending.decode().lower()}" for ending in _OTHER.findall(block)]
    if others:
        left_out.update(others)
        block = b"".join(name for name in re.findall(rb"[^\0]*\0", block) if not _OTHER.search(name))
    if not is_sorted:  # non-ASCII names: Python sorts strings in another order than bytes
        names = sorted(os.fsdecode(block).split("\0")[:-1])
        block = os.fsencode("".join(f"{name}\0" for name in names))
    if prefix and block:
        start = os.fsencode(prefix)
        block = start + block[:-1].replace(b"\0", b"\0" + start) + b"\0"
    return block, [os.fsdecode(name) for name in folders]


def _collect(top: str, name: str, left_out: Counter[str]) -> bytes:
    """The images below `top`, in the order of sorted(os.walk(top)), as paths that begin with `name`."""
    found: list[tuple[str, bytes]] = []
    stack: list[tuple[str, str, tuple[tuple[int, int], ...]]] = [(top, name, (_identity(top),))]
    while stack:
        path, relative, ancestors = stack.pop()
        images, folders = _list(path, f"{relative}/", left_out)
        found.append((relative, images))
        for folder_name in folders:
            below = os.path.join(path, folder_name)
            identity = _identity(below)
            if identity not in ancestors:  # following a link to a parent folder would never end
                stack.append((below, f"{relative}/{folder_name}", (*ancestors, identity)))
    return b"".join(images for _, images in sorted(found))


def _identity(path: str) -> tuple[int, int]:
    state = os.stat(path)
    return state.st_dev, state.st_ino
