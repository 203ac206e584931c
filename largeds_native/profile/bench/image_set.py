"""Prepares the images for all candidates: a sample of the user's, or built-in ones, linked in one folder and packed."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from largeds_native._internal.corpus import jpeg_corpus
from largeds_native._internal.units import size
from largeds_native.errors import ArgumentError, PackError, StorageError
from largeds_native.packing import pack
from largeds_native.profile.bench.candidates import Progress
from largeds_native.profile.peers import SIDE
from largeds_native.sources.folder_source import FolderSource
from largeds_native.store import Store

ROW_BYTES = 3 * SIDE * SIDE
MAX_COPIES = 7  # largest number of copies of all rows on the disk at once


@dataclass(frozen=True)
class ImageSet:
    """folder: the images, one folder per class; every file can be decoded. out: output folder of the candidates, which
    is emptied before each. store: the same images, packed."""

    folder: Path
    out: Path
    store: Store
    threads: int

    @cached_property
    def paths(self) -> list[str]:
        return sorted(str(path) for path in self.folder.rglob("*") if path.is_file())

    @property
    def count(self) -> int:
        return len(self.store)

    def empty_out(self) -> None:
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()


def prepare_images(
    source: Path | None, work: Path, count: int, threads: int, progress: Progress, codec: str = "raw"
) -> ImageSet:
    """Chooses or creates the images and packs them once. Images that can't be decoded are removed for everyone."""
    _check_free_space(work, count)
    folder = work / "images"
    shutil.rmtree(folder, ignore_errors=True)
    if source is None:
        progress(f"making {count:,} JPEG files")
        source = jpeg_corpus(work / "jpeg", count)
    _link(source, folder, count)
    progress("packing the images for loading")
    shutil.rmtree(work / "store.lds", ignore_errors=True)
    kwargs: dict[str, Any] = {"threads": threads, "max_failures": 1.0, "progress": False, "resume": False}
    kwargs |= {} if codec == "raw" else {"codec": codec, "resize": 256, "quality": 90}
    store = pack(folder, work / "store.lds", **kwargs)
    samples = store.samples.select(["source", "row"]).to_pydict()
    for name, row in zip(samples["source"], samples["row"], strict=True):
        if row < 0:
            (folder / name).unlink()
    if not len(store):
        raise PackError(f"none of {count:,} images of {source} can be decoded; see `largeds pack`")
    progress("")
    return ImageSet(folder, work / "out", store, threads)


def _link(source: Path, folder: Path, count: int) -> None:
    """Links `count` evenly spaced files of the source, one folder per class, as ImageFolder needs them."""
    if not source.is_dir():
        raise ArgumentError(f"{source}: expected a folder of images" + ", found a file" * source.exists())
    found = FolderSource(source)
    chosen = np.linspace(0, found.count - 1, min(count, found.count)).astype(np.int64)
    for i, (name, path) in enumerate(found.paths(chosen)):
        group = name.partition("/")[0] if found.classes else "images"
        (folder / group).mkdir(parents=True, exist_ok=True)
        os.symlink(path, folder / group / f"{i:06d}{Path(name).suffix.lower()}")


def _check_free_space(work: Path, count: int) -> None:
    """Raises StorageError if the disk is too full: peers write through mappings, which SIGBUS would then kill."""
    free = shutil.disk_usage(work).free
    if free < (needed := count * ROW_BYTES * MAX_COPIES):
        raise StorageError(f"{work}: up to {size(needed)} are needed, {size(free)} are free: pass a smaller --images")
