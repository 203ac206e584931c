"""How fast is loading from disk? Against pread at a queue depth of 32 on the same file.

The page cache is dropped before every round. There is one table for rows of 3x224x224, one for 3x32x32, and one for
JPEG rows, which decoding may limit more than the disk does: it has the Loader with the rows in memory, too.

With --as-other-user, as root: read by a user who may not write the files, as is usual on a cluster. The kernel tells
such a user less about what is in memory.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from corpus import ROOT, jpegs
from harness import options_parser, report

import largeds_native as lds
from largeds_native._internal.measure import Contender, drop_files, take_turns

DEPTH = 32
RANDOM = np.random.default_rng(1)


def pread_at_depth(path: Path, offset: int, row: int, rows: int) -> Callable[[], int]:
    """Reads every row once, in random order, in 32 threads that discard the bytes."""
    buffers = [bytearray(row) for _ in range(DEPTH)]

    def read(descriptor: int, numbers: Any, buffer: bytearray) -> None:
        for number in numbers:
            os.preadv(descriptor, [buffer], offset + int(number) * row)

    def run() -> int:
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        parts = np.array_split(RANDOM.permutation(rows), DEPTH)
        with ThreadPoolExecutor(DEPTH) as pool:
            list(pool.map(read, [descriptor] * DEPTH, parts, buffers))
        os.close(descriptor)
        return rows

    return run


def one_by_one(path: Path, rows: int) -> Callable[[], int]:
    """A np.memmap indexed by random batches."""

    def run() -> int:
        images = np.load(path, mmap_mode="r")
        order = RANDOM.permutation(rows)
        for start in range(0, rows, 256):
            images[order[start : start + 256]]
        return rows

    return run


@contextlib.contextmanager
def another_user(wanted: bool) -> Iterator[None]:
    """Runs all threads of this process as the user nobody."""
    if wanted:
        os.seteuid(65534)
    try:
        yield
    finally:
        if wanted:
            os.seteuid(0)


def question(folder: Path, name: str, n: int, side: int, batch: int, options: Any) -> None:
    images = np.random.default_rng(0).integers(0, 256, (n, 3, side, side), np.uint8)
    kwargs: dict[str, Any] = {"resize": None, "crop": None, "shard_bytes": 8 << 30, "progress": False}
    store = lds.pack((images, np.arange(n)), folder / f"{name}.lds", **kwargs)
    del images
    (path, offset, _), *_ = store.files("images")
    files = [file.path for file in store.files("images")]

    def cold() -> None:
        store.close()
        drop_files(files)

    def ours(**order: Any) -> Callable[[], int]:
        def run() -> int:
            fresh = lds.open(store.path)
            kwargs = {"dtype": torch.uint8, "threads": options.threads, "fields": (), "prefetch": 4}
            with lds.Loader(fresh, batch, **order, **kwargs) as loader:
                return sum(len(images) for (images,) in loader)

        return run

    contenders = [
        Contender("pread, 32 at a time", pread_at_depth(path, offset, store.row_bytes, n), "reference", before=cold),
        Contender("Loader", ours(shuffle=True), "ours", before=cold),
        Contender("Loader, block order", ours(order="block"), "ours", before=cold),
        Contender("np.memmap, fancy index", one_by_one(path, n), before=cold),
    ]
    sum(len(images) for (images,) in lds.Loader(store, batch, fields=()))  # imports everything while this is allowed
    with another_user(options.as_other_user):
        results = take_turns(contenders, rounds=options.rounds)
    name = f"cold_{name}_as_other_user" if options.as_other_user else f"cold_{name}"
    title = f"cold: random batches of {batch}, 3x{side}x{side} uint8"
    if options.as_other_user:
        title += ", by a user who may not write the files"
    base = "pread, 32 at a time"
    report(name, title, results, cache="cold", of="Loader", relative_to=base, target=0.9)


def jpeg_question(n: int, options: Any) -> None:
    """Random resized crops of 224 from JPEG rows."""
    path = ROOT / "cold.jpeg.lds"
    shutil.rmtree(path, ignore_errors=True)
    store = lds.pack(jpegs(n), path, codec="jpeg", shard_bytes=8 << 30, progress=False)
    shard = store.shards[0].path
    images, offsets = shard / "images.bin", np.load(shard / "images.offsets.npy").astype(np.int64)
    beside = [shard / "images.offsets.npy", shard / "images.size.npy", shard / "label.npy"]

    def cold() -> None:
        store.close()
        drop_files([images, *beside])

    def pread() -> int:
        descriptor = os.open(images, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        with ThreadPoolExecutor(DEPTH) as pool:
            rows = RANDOM.permutation(n)
            sizes = pool.map(
                lambda i: len(os.pread(descriptor, int(offsets[i + 1] - offsets[i]), int(offsets[i]))), rows
            )
            assert sum(sizes) == offsets[-1]
        os.close(descriptor)
        return n

    def ours() -> int:
        augment = lds.Augment(resized_crop=224, flip=0.5)
        kwargs: dict[str, Any] = {"dtype": torch.uint8, "threads": options.threads, "fields": (), "prefetch": 4}
        with lds.Loader(lds.open(store.path), 256, shuffle=True, augment=augment, **kwargs) as loader:
            return sum(len(batch) for (batch,) in loader)

    contenders = [
        Contender("pread, 32 at a time", pread, "reference", before=cold),
        Contender("Loader, rows in memory", ours, "limit"),
        Contender("Loader", ours, "ours", before=cold),
    ]
    results = take_turns(contenders, rounds=options.rounds)
    title, base = "cold: random resized crops of 224 from JPEG rows, batches of 256", "Loader, rows in memory"
    report("cold_jpeg", title, results, cache="cold", of="Loader", relative_to=base, target=0.9)


if __name__ == "__main__":
    parser = options_parser(__doc__)
    parser.add_argument("--images", type=int, default=10_000, help="of 3x224x224 (10,000: 1.5 GB)")
    parser.add_argument("--as-other-user", action="store_true", help="read as the user nobody; needs root")
    chosen = parser.parse_args()
    if chosen.as_other_user and os.geteuid() != 0:
        sys.exit("--as-other-user: only root can become another user")
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as where:
        Path(where).chmod(0o755)
        question(Path(where), "large", chosen.images, 224, 256, chosen)
        question(Path(where), "small", chosen.images * 6, 32, 512, chosen)
    if not chosen.as_other_user:
        jpeg_question(1000, chosen)
