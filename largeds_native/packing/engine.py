"""Packs the items of a batch into rows of a shard's file. The C++ packer takes encoded images and arrays of pixels;
Pillow decodes formats that the core does not support."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from largeds_native._internal.arrays import Array
from largeds_native.packing import pillow
from largeds_native.packing.options import PackOptions
from largeds_native.packing.value_table import value_table
from largeds_native.sources import FailedItem, Item
from largeds_native.store.format.sample_log import CORE, NOT_DECODED, PILLOW, PIXELS, SampleResults
from largeds_native.store.format.statistics import Sums

if TYPE_CHECKING:
    from largeds_native import _C

POLL_SECONDS = 0.1  # how often Python looks at the progress of the threads, and runs signal handlers (Ctrl-C)

Int64Array = np.ndarray[Any, np.dtype[np.int64]]
OnBatchProgress = Callable[[int], None]  # called with the number of items done; may raise to stop


@dataclass
class Clock:
    """Seconds spent, summed over all threads, and bytes read."""

    read: float = 0.0
    decode: float = 0.0
    write: float = 0.0
    bytes_read: int = 0


@dataclass
class RunningBatch:
    """A batch that the threads are packing, and the destination of its rows."""

    items: list[Item]
    descriptor: int
    offset: int
    samples: Int64Array
    has_pixels: bool
    refused: dict[int, tuple[str, str]]  # (reason, message) of arrays that can't be packed


class Engine:
    """Packs one batch at a time with `threads` threads. Use it from one thread.

    `size`: (height, width) of images after resize and crop; (0, 0) where rows are JPEG files. `make_engine` makes one.
    """

    def __init__(self, options: PackOptions, size: tuple[int, int], threads: int) -> None:
        self._options, self._threads = options, threads
        self._packer = self._make_packer(size)
        self._running: RunningBatch | None = None
        self._last: RunningBatch | None = None
        self._pillow_seconds = 0.0
        self._bytes_given = 0  # of files that are in memory, as those from object storage

    def _make_packer(self, size: tuple[int, int]) -> _C.Packer:
        from largeds_native import _C

        options = self._options
        return _C.Packer(
            options.transform.core(size, options.layout),
            self._threads,
            variants=options.variants,
            augment=None if options.augment is None else options.augment.core(),
            seed=options.seed,
            table=value_table(options),
            value_bytes=np.dtype(options.dtype).itemsize,
        )

    @property
    def sample_bytes(self) -> int:
        """Stored bytes of one image with all its variants."""
        return self._packer.sample_bytes

    @property
    def clock(self) -> Clock:
        read, decode, write, bytes_read = self._packer.clock()
        return Clock(read, decode + self._pillow_seconds, write, bytes_read + self._bytes_given)

    def start(self, items: list[Item], samples: Int64Array, descriptor: int = -1, offset: int = 0) -> None:
        """Starts to write the items' rows into an open file, from byte `offset` on; without a file, they are only
        hashed. `samples` are the indices of the items in the source."""
        has_pixels = any(isinstance(item, (np.ndarray, FailedItem)) for item in items)
        self._bytes_given += sum(len(item) for item in items if isinstance(item, bytes))
        packed: tuple[Any, ...] = tuple(items)
        refused: dict[int, tuple[str, str]] = {}
        if has_pixels:
            packed, refused = self._as_pixels(items)
        self._running = RunningBatch(items, descriptor, offset, samples, has_pixels, refused)
        self._packer.start(packed, descriptor, offset, None, samples)

    def finish(self, on_progress: OnBatchProgress) -> SampleResults:
        """Waits for the batch. Call `close_gaps` with its results."""
        assert self._running is not None
        batch = self._running
        self._wait(on_progress)
        width, height, hashes, failures, sums = self._packer.result()
        decoder = np.zeros(len(batch.items), np.uint8) + CORE
        if batch.has_pixels:
            decoder[[isinstance(item, np.ndarray) for item in batch.items]] = PIXELS
        errors = {i: (reason, message) for i, reason, message in failures} | batch.refused
        results = SampleResults(width, height, hashes, decoder, Sums(*sums), errors)
        self._complete(batch, results, on_progress)
        results.decoder[list(results.errors)] = NOT_DECODED
        self._last, self._running = batch, None
        on_progress(len(batch.items))
        return results

    def close_gaps(self, results: SampleResults) -> None:
        """Moves the rows of the last batch together, so that failed items leave no gap. Items may also have failed
        since `finish`, for their pictures."""
        batch = self._last
        assert batch is not None
        if results.errors and batch.descriptor >= 0:
            self._close_gaps(batch, results)

    def _close_gaps(self, batch: RunningBatch, results: SampleResults) -> None:
        from largeds_native import _C

        _C.close_gaps(batch.descriptor, batch.offset, self.sample_bytes, results.good())

    def _complete(self, batch: RunningBatch, results: SampleResults, on_progress: OnBatchProgress) -> None:
        """Lets Pillow decode what the core does not."""
        self._with_pillow(batch, results, on_progress)

    def abort(self) -> None:
        """Stops the threads; after it returns, nothing more is written."""
        self._packer.cancel()
        while not self._packer.wait(1.0):
            pass

    def _wait(self, on_progress: OnBatchProgress) -> None:
        while not self._packer.wait(POLL_SECONDS):
            on_progress(self._packer.done)

    def _as_pixels(self, items: list[Item]) -> tuple[tuple[Item, ...], dict[int, tuple[str, str]]]:
        """The items, with arrays converted for the core; and (reason, message) of arrays that it can't pack."""
        refused: dict[int, tuple[str, str]] = {}

        def pixels(i: int, item: Array) -> Item:
            try:
                return self._from_array(item)
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

    @staticmethod
    def _foreign(batch: RunningBatch, results: SampleResults) -> list[int]:
        """The files that the core does not support."""
        errors = results.errors.items()
        return [i for i, (reason, _) in errors if reason == "unsupported" and i not in batch.refused]

    def _with_pillow(self, batch: RunningBatch, results: SampleResults, on_progress: OnBatchProgress) -> None:
        """Decodes what the core does not support, a few images at a time, since their pixels are held in memory."""
        foreign = self._foreign(batch, results)
        step = 4 * self._threads
        for low in range(0, len(foreign), step):
            chosen = foreign[low : low + step]
            start = time.perf_counter()
            decoded = []
            for i, result in zip(chosen, self._decode(batch.items, chosen), strict=True):
                if isinstance(result, pillow.PixelsError):
                    results.errors[i] = result.reason, str(result)
                else:
                    decoded.append((i, result))
            self._pillow_seconds += (time.perf_counter() - start) * self._threads
            self._pack_pixels(batch, decoded, results)
            on_progress(len(batch.items))

    def _decode(self, items: list[Item], chosen: list[int]) -> Iterator[Array | pillow.PixelsError]:
        def decode_or_error(i: int) -> Array | pillow.PixelsError:
            try:
                return self._decode_one(items[i])
            except pillow.PixelsError as error:
                return error

        with ThreadPoolExecutor(self._threads) as pool:
            yield from pool.map(decode_or_error, chosen)

    def _from_array(self, item: Array) -> Array:
        """An array of the source as the core takes it."""
        return pillow.to_mode(item, self._options.transform)

    def _decode_one(self, item: Any) -> Array:
        return pillow.decode(item, self._options.transform)

    def _pack_pixels(self, batch: RunningBatch, decoded: list[tuple[int, Array]], results: SampleResults) -> None:
        indices = np.array([i for i, _ in decoded], np.int64)
        pixels = tuple(np.ascontiguousarray(image) for _, image in decoded)
        self._start_pixels(batch, indices, pixels)
        width, height, hashes, failures, sums = self._packer.result()
        failed = {i: (reason, message) for i, reason, message in failures}
        for at, i in enumerate(indices.tolist()):
            results.width[i], results.height[i], results.hash[i] = width[at], height[at], hashes[at]
            if at in failed:
                results.errors[i] = failed[at]
            else:
                del results.errors[i]
                results.decoder[i] = PILLOW
        results.sums += Sums(*sums)

    def _start_pixels(self, batch: RunningBatch, indices: Int64Array, pixels: tuple[Array, ...]) -> None:
        """Starts to write the rows of these items of the batch, decoded by Pillow."""
        self._packer.start(pixels, batch.descriptor, batch.offset, indices, batch.samples[indices])
