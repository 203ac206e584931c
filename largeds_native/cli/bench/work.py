"""What is worked on: a sample of the user's images, or the built-in ones, as one folder that everybody reads."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

import largeds_native as lds
from largeds_native._internal.units import size
from largeds_native.cli.bench.candidates import Note
from largeds_native.cli.info import failed_samples
from largeds_native.cli.peers import SIDE
from largeds_native.errors import ArgumentError, PackError, StorageError
from largeds_native.sources.folder import FolderSource
from largeds_native.store import Store

ROW = 3 * SIDE * SIDE  # bytes of an image in a store
COPIES = 7  # of all rows, at most, that lie on the disk at once


@dataclass(frozen=True)
class Work:
    """`images`: one folder a class, each file good. `out`: where contenders write; emptied before each."""

    images: Path
    out: Path
    store: Store
    threads: int

    @cached_property
    def paths(self) -> list[str]:
        return sorted(str(path) for path in self.images.rglob("*") if path.is_file())

    @property
    def count(self) -> int:
        return len(self.store)

    def fresh(self) -> None:
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()


def prepared(source: Path | None, folder: Path, images: int, threads: int, note: Note) -> Work:
    """Chooses or makes the images, and packs them once: what can't be decoded is left out for everybody."""
    _room(folder, images)
    tree = folder / "images"
    shutil.rmtree(tree, ignore_errors=True)
    if source is None:
        from largeds_native._internal.corpus import jpeg_corpus

        note(f"making {images:,} JPEG files")
        source = jpeg_corpus(folder / "jpeg", images)
    _link(source, tree, images)
    note("packing what will be loaded")
    shutil.rmtree(folder / "store.lds", ignore_errors=True)
    store = lds.pack(tree, folder / "store.lds", threads=threads, progress=False, resume=False)
    for failed in failed_samples(store):
        (tree / failed["source"]).unlink()
    if not len(store):
        raise PackError(f"none of {images:,} images of {source} can be decoded; see `largeds pack`")
    note("")
    return Work(tree, folder / "out", store, threads)


def _link(source: Path, tree: Path, images: int) -> None:
    """Links to `images` files spread evenly over the source, by class: everybody finds them as ImageFolder does."""
    if not source.is_dir():
        raise ArgumentError(f"{source}: expected a folder of images" + ", found a file" * source.exists())
    found = FolderSource(source)
    chosen = np.linspace(0, found.count - 1, min(images, found.count)).astype(np.int64)
    for i, (name, path) in enumerate(found.paths(chosen)):
        group = name.partition("/")[0] if found.classes else "images"
        (tree / group).mkdir(parents=True, exist_ok=True)
        os.symlink(path, tree / group / f"{i:06d}{Path(name).suffix.lower()}")


def _room(folder: Path, images: int) -> None:
    """Peers write through mappings, which a full disk would end with SIGBUS."""
    free = shutil.disk_usage(folder).free
    if free < (needed := images * ROW * COPIES):
        raise StorageError(f"{folder}: up to {size(needed)} are needed, {size(free)} are free; take fewer --images")
