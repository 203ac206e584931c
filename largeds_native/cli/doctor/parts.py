"""The parts of the way alone, each in images/s: memory, disk, decoding, gathering."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from largeds_native.store import Store

Range = tuple[str, int, int]  # of a file: path, offset, bytes
DEPTH = 32  # reads under way at once, as the loader asks
PAGE, LONGEST = 4096, 1 << 20


def rate(run: Callable[[], int], seconds: float) -> float:
    """Items per second of a function that returns how many it did, after one call that is not counted."""
    run()
    items, start = 0, time.perf_counter()
    while (now := time.perf_counter()) - start < seconds or not items:
        items += run()
    return items / (max(now, time.perf_counter()) - start)


def memory_copy(image_bytes: int, threads: int, seconds: float) -> float:
    """Images/s of a plain copy by all threads: nothing that makes batches of new memory is faster by much."""
    size = 1 << 25
    pairs = [(np.ones(size, np.uint8), np.zeros(size, np.uint8)) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:

        def copy() -> int:
            list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), pairs))
            return size * threads

        return rate(copy, seconds) / image_bytes


def disk(ranges: Sequence[Sequence[Range]], seconds: float, threads: int) -> tuple[float, float, int]:
    """(images/s from the disk, images/s from the page cache, images read) of images that each lie in such ranges.

    The first is asked for with nothing of them in the page cache; what was read stays there. Stops when `seconds` are
    over, with what it has."""
    group = max(64, DEPTH)
    done, cold_seconds, warm_seconds = 0, 0.0, 0.0
    with ThreadPoolExecutor(DEPTH) as deep, ThreadPoolExecutor(threads) as shallow:
        while done < len(ranges) and cold_seconds < seconds:
            part = ranges[done : done + group]
            pieces = _pieces(piece for image in part for piece in image)
            _forget(pieces)
            cold_seconds += _read(pieces, deep)
            warm_seconds += _read(pieces, shallow)
            done += len(part)
            group = min(group * 2, 4096)
    return done / max(cold_seconds, 1e-9), done / max(warm_seconds, 1e-9), done


def _pieces(ranges: Iterable[Range]) -> list[Range]:
    """The same as whole pages, each once, in pieces that are not too long."""
    whole = sorted((path, offset // PAGE * PAGE, -(-(offset + size) // PAGE) * PAGE) for path, offset, size in ranges)
    joined: list[Range] = []
    for path, low, high in whole:
        if joined and joined[-1][0] == path and joined[-1][2] >= low:
            joined[-1] = (path, joined[-1][1], max(joined[-1][2], high))
        else:
            joined.append((path, low, high))
    return [(path, at, min(LONGEST, high - at)) for path, low, high in joined for at in range(low, high, LONGEST)]


def _forget(pieces: Sequence[Range]) -> None:
    """Drops these pages alone from the page cache: what else the user has there stays."""
    for path, offset, size in pieces:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fdatasync(descriptor)
            os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def _read(pieces: Sequence[Range], pool: ThreadPoolExecutor) -> float:
    """Seconds to read them, in no order, so many at a time as the pool has threads."""
    local = threading.local()

    def read(i: int) -> None:
        if not hasattr(local, "buffer"):
            local.buffer = bytearray(LONGEST)
        path, offset, size = pieces[i]
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)  # no reading ahead of what was not asked for
            os.preadv(descriptor, [memoryview(local.buffer)[:size]], offset)
        finally:
            os.close(descriptor)

    order = np.random.default_rng(0).permutation(len(pieces)).tolist()
    start = time.perf_counter()
    list(pool.map(read, order))
    return time.perf_counter() - start


def row_ranges(store: Store, rows: Sequence[int]) -> list[list[Range]]:
    """Where these images lie in the store's files."""
    size = store.row_bytes * store.variants
    files = store.files("images")
    starts = np.cumsum([0, *(file.rows for file in files)])
    holders = np.searchsorted(starts, rows, "right") - 1
    return [
        [(str(files[i].path), files[i].offset + (row - int(starts[i])) * size, size)]
        for row, i in zip(rows, holders.tolist(), strict=True)
    ]


def item_ranges(items: Sequence[Any]) -> list[list[Range]]:
    """Where encoded images lie: a file each, or a part of an archive."""
    return [[(item, 0, os.path.getsize(item)) if isinstance(item, str) else item] for item in items]


def up_to(ranges: list[list[Range]], most: int) -> list[list[Range]]:
    sizes = itertools.accumulate(sum(piece[2] for piece in image) for image in ranges)
    return [image for image, size in zip(ranges, sizes, strict=True) if size <= most] or ranges[:1]


def gather(store: Store, rows: Sequence[int], batch_size: int, words: dict[str, Any], seconds: float) -> float:
    """Images/s of `store.gather` into one tensor, of images that are in memory."""
    import torch

    random, chosen = np.random.default_rng(0), np.asarray(rows)
    size = min(batch_size, len(chosen))
    words = {"dtype": torch.float32 if store.dtype == np.uint8 else None} | words
    out = store.gather(chosen[:size], **words)

    def one() -> int:
        store.gather(random.choice(chosen, size), out, **words)
        return size

    return rate(one, seconds)


def decode(items: Sequence[Any], words: dict[str, Any], threads: int, seconds: float) -> float:
    """Images/s of `lds.decode_batch` (decode, resize, crop), of files that are in memory."""
    import largeds_native as lds

    encoded = [_bytes(item) for item in items[:128]]
    return rate(lambda: len(lds.decode_batch(encoded, threads=threads, on_error="skip", **words)[0]), seconds)


def _bytes(item: Any) -> bytes:
    path, offset, size = item if isinstance(item, tuple) else (item, 0, -1)
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(size)
