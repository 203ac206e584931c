"""Measures the speed of each part alone, in images/s: memory, disk, decoding, gathering."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from largeds_native._internal.measure import rate_within
from largeds_native._internal.measure.page_cache import Range, drop_ranges
from largeds_native.packing.decoding import decode_batch
from largeds_native.store import JpegStore

if TYPE_CHECKING:
    from largeds_native.store import Store

DEPTH = 32  # number of concurrent reads, as in the loader
PAGE = 4096
MAX_READ = 1 << 20  # bytes


def memory_copy_rate(image_bytes: int, threads: int, seconds: float) -> float:
    """Images/s of a plain copy by all threads, which is about the largest speed of filling batches."""
    size = 1 << 25
    pairs = [(np.ones(size, np.uint8), np.zeros(size, np.uint8)) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:

        def copy() -> int:
            list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), pairs))
            return size * threads

        return rate_within(copy, seconds) / image_bytes


def read_rates(ranges: Sequence[Sequence[Range]], seconds: float, threads: int) -> tuple[float, float, int]:
    """(images/s from the disk, images/s from the page cache, images read). `ranges`: the file ranges of each image.

    Drops each image from the page cache, then reads it twice; it then stays in the page cache. Stops after
    `seconds`."""
    group = max(64, DEPTH)
    done, cold_seconds, warm_seconds = 0, 0.0, 0.0
    with ThreadPoolExecutor(DEPTH) as deep, ThreadPoolExecutor(threads) as shallow:
        while done < len(ranges) and cold_seconds < seconds:
            part = ranges[done : done + group]
            pieces = _pieces(piece for image in part for piece in image)
            drop_ranges(pieces)
            cold_seconds += _read_seconds(pieces, deep)
            warm_seconds += _read_seconds(pieces, shallow)
            done += len(part)
            group = min(group * 2, 4096)
    return done / max(cold_seconds, 1e-9), done / max(warm_seconds, 1e-9), done


def _pieces(ranges: Iterable[Range]) -> list[Range]:
    """The ranges extended to whole pages, without overlaps, in pieces of at most MAX_READ bytes."""
    whole = sorted((path, offset // PAGE * PAGE, -(-(offset + size) // PAGE) * PAGE) for path, offset, size in ranges)
    joined: list[Range] = []
    for path, low, high in whole:
        if joined and joined[-1][0] == path and joined[-1][2] >= low:
            joined[-1] = (path, joined[-1][1], max(joined[-1][2], high))
        else:
            joined.append((path, low, high))
    return [(path, at, min(MAX_READ, high - at)) for path, low, high in joined for at in range(low, high, MAX_READ)]


def _read_seconds(pieces: Sequence[Range], pool: ThreadPoolExecutor) -> float:
    """Seconds to read the pieces in random order, one at a time per thread of the pool."""
    local = threading.local()

    def read(i: int) -> None:
        if not hasattr(local, "buffer"):
            local.buffer = bytearray(MAX_READ)
        path, offset, size = pieces[i]
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)  # no read-ahead
            os.preadv(descriptor, [memoryview(local.buffer)[:size]], offset)
        finally:
            os.close(descriptor)

    order = np.random.default_rng(0).permutation(len(pieces)).tolist()
    start = time.perf_counter()
    list(pool.map(read, order))
    return time.perf_counter() - start


def row_ranges(store: Store, rows: Sequence[int]) -> list[list[Range]]:
    """The file ranges of these images of a store."""
    if isinstance(store, JpegStore):
        return [[store.file_range(row)] for row in rows]
    size = store.row_bytes * store.variants
    files = store.files("images")
    starts = np.cumsum([0, *(file.rows for file in files)])
    holders = np.searchsorted(starts, rows, "right") - 1
    return [
        [(str(files[i].path), files[i].offset + (row - int(starts[i])) * size, size)]
        for row, i in zip(rows, holders.tolist(), strict=True)
    ]


def item_ranges(items: Sequence[Any]) -> list[list[Range]]:
    """The file ranges of encoded images: each is a file, or a part of an archive."""
    return [[(item, 0, os.path.getsize(item)) if isinstance(item, str) else item] for item in items]


def first_bytes(ranges: list[list[Range]], max_bytes: int) -> list[list[Range]]:
    """The first images whose total size is at most `max_bytes`; at least one image."""
    sizes = itertools.accumulate(sum(piece[2] for piece in image) for image in ranges)
    return [image for image, size in zip(ranges, sizes, strict=True) if size <= max_bytes] or ranges[:1]


def gather_rate(store: Store, rows: Sequence[int], batch_size: int, options: dict[str, Any], seconds: float) -> float:
    """Images/s of `store.gather(rows, **options)` into one tensor, with images in memory."""
    import torch

    random, chosen = np.random.default_rng(0), np.asarray(rows)
    size = min(batch_size, len(chosen))
    options = {"dtype": torch.float32 if store.dtype == np.uint8 else None} | options
    out = store.gather(chosen[:size], **options)

    def gather_batch() -> int:
        store.gather(random.choice(chosen, size), out, **options)
        return size

    return rate_within(gather_batch, seconds)


def decode_rate(items: Sequence[Any], options: dict[str, Any], threads: int, seconds: float) -> float:
    """Images/s of `decode_batch(items, **options)` (decode, resize, crop), with files in memory."""
    encoded = [_read_item(item) for item in items[:128]]
    return rate_within(lambda: len(decode_batch(encoded, threads=threads, on_error="skip", **options)[0]), seconds)


def _read_item(item: Any) -> bytes:
    path, offset, size = item if isinstance(item, tuple) else (item, 0, -1)
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(size)
