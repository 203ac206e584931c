"""Items of a batch -> rows of a shard's file: the C++ packer for encoded images and for pixels that a source decoded
itself, Pillow for formats that the core does not know."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from largeds_native._internal.arrays import Array
from largeds_native.packing import pillow
from largeds_native.packing.options import Options
from largeds_native.packing.values import value_table
from largeds_native.sources import FailedItem, Item
from largeds_native.store.format.sample_log import CORE, NOBODY, PILLOW, PIXELS, SampleResults
from largeds_native.store.format.statistics import Sums

LOOK_EVERY = 0.1  # seconds between two looks at how far the threads are: as soon a Ctrl-C is heard

Numbers = np.ndarray[Any, np.dtype[np.int64]]
Watch = Callable[[int], None]  # called with the number of items done; may raise to stop


@dataclass
class Clock:
    """Seconds that threads spent, summed over all of them, and bytes read."""

    read: float = 0.0
    decode: float = 0.0
    write: float = 0.0
    bytes_read: int = 0


@dataclass
class _Started:
    """A batch that the threads work on, and where its rows go."""

    items: list[Item]
    descriptor: int
    offset: int
    samples: Numbers
    has_pixels: bool
    refused: dict[int, tuple[str, str]]  # pixels that can't be packed


class Engine:
    """Packs batches with so many threads, one at a time. Use from one thread.

    `size`: (height, width) that decoded images end with.
    """

    def __init__(self, options: Options, size: tuple[int, int], threads: int) -> None:
        from largeds_native import _C

        self._options, self._threads = options, threads
        self._packer = _C.Packer(
            options.transform.core(size, options.layout),
            threads,
            variants=options.variants,
            augment=None if options.augment is None else options.augment.core(),
            seed=options.seed,
            table=value_table(options),
            value_bytes=np.dtype(options.dtype).itemsize,
        )
        self._started: _Started | None = None
        self._pillow_seconds = 0.0

    @property
    def sample_bytes(self) -> int:
        """Stored for each image, with all its versions."""
        return self._packer.sample_bytes

    @property
    def clock(self) -> Clock:
        read, decode, write, bytes_read = self._packer.clock()
        return Clock(read, decode + self._pillow_seconds, write, bytes_read)

    def start(self, items: list[Item], samples: Numbers, descriptor: int = -1, offset: int = 0) -> None:
        """Begins to write the items' rows into an open file, from byte `offset` on; with no file they are only hashed.
        `samples` are the items' numbers in the source."""
        has_pixels = any(isinstance(item, (np.ndarray, FailedItem)) for item in items)
        packed, refused = self._as_pixels(items) if has_pixels else (tuple(items), {})
        self._started = _Started(items, descriptor, offset, samples, has_pixels, refused)
        self._packer.start(packed, descriptor, offset, None, samples)

    def finish(self, watch: Watch) -> SampleResults:
        """Waits for the batch; rows of failed items leave no gap."""
        assert self._started is not None
        batch = self._started
        self._wait(watch)
        width, height, hashes, failures, sums = self._packer.result()
        decoder = np.zeros(len(batch.items), np.uint8) + CORE
        if batch.has_pixels:
            decoder[[isinstance(item, np.ndarray) for item in batch.items]] = PIXELS
        errors = {i: (reason, message) for i, reason, message in failures} | batch.refused
        rows = SampleResults(width, height, hashes, decoder, Sums(*sums), errors)
        self._with_pillow(batch, rows, watch)
        rows.decoder[list(rows.errors)] = NOBODY
        if rows.errors and batch.descriptor >= 0:
            from largeds_native import _C

            _C.close_gaps(batch.descriptor, batch.offset, self.sample_bytes, rows.good())
        self._started = None
        watch(len(batch.items))
        return rows

    def abort(self) -> None:
        """Stops the threads; when it returns, nothing is written any more."""
        self._packer.cancel()
        while not self._packer.wait(1.0):
            pass

    def _wait(self, watch: Watch) -> None:
        while not self._packer.wait(LOOK_EVERY):
            watch(self._packer.done)

    def _as_pixels(self, items: list[Item]) -> tuple[tuple[Item, ...], dict[int, tuple[str, str]]]:
        """The items with arrays as the core takes them, and those that it can't take."""
        refused: dict[int, tuple[str, str]] = {}

        def pixels(i: int, item: Array) -> Item:
            try:
                return pillow.to_mode(item, self._options.transform)
            except pillow.PixelsError as error:
                refused[i] = error.reason, str(error)
                return b""

        packed: list[Item] = []
        for i, item in enumerate(items):
            if isinstance(item, FailedItem):
                refused[i] = item.reason, item.message
                packed.append(b"")
            else:
                packed.append(pixels(i, item) if isinstance(item, np.ndarray) else item)
        return tuple(packed), refused

    def _with_pillow(self, batch: _Started, rows: SampleResults, watch: Watch) -> None:
        """Decodes what the core does not know, a few images at a time: they wait in memory for their rows."""
        foreign = [i for i, (reason, _) in rows.errors.items() if reason == "unsupported"]
        step = 4 * self._threads
        for low in range(0, len(foreign), step):
            chosen = foreign[low : low + step]
            start = time.perf_counter()
            decoded = []
            for i, result in zip(chosen, self._decode(batch.items, chosen), strict=True):
                if isinstance(result, pillow.PixelsError):
                    rows.errors[i] = result.reason, str(result)
                else:
                    decoded.append((i, result))
            self._pillow_seconds += (time.perf_counter() - start) * self._threads
            self._pack_pixels(batch, decoded, rows)
            watch(len(batch.items))

    def _decode(self, items: list[Item], chosen: list[int]) -> Iterator[Array | pillow.PixelsError]:
        def guarded(i: int) -> Array | pillow.PixelsError:
            try:
                return pillow.decode(items[i], self._options.transform)
            except pillow.PixelsError as error:
                return error

        with ThreadPoolExecutor(self._threads) as pool:
            yield from pool.map(guarded, chosen)

    def _pack_pixels(self, batch: _Started, decoded: list[tuple[int, Array]], rows: SampleResults) -> None:
        indices = np.array([i for i, _ in decoded], np.int64)
        pixels = tuple(np.ascontiguousarray(image) for _, image in decoded)
        self._packer.start(pixels, batch.descriptor, batch.offset, indices, batch.samples[indices])
        width, height, hashes, failures, sums = self._packer.result()
        failed = {i: (reason, message) for i, reason, message in failures}
        for at, i in enumerate(indices.tolist()):
            rows.width[i], rows.height[i], rows.hash[i] = width[at], height[at], hashes[at]
            if at in failed:
                rows.errors[i] = failed[at]
            else:
                del rows.errors[i]
                rows.decoder[i] = PILLOW
        rows.sums += Sums(*sums)
