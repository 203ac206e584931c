"""Items of a batch -> uint8 rows: the C++ job for encoded images, Pillow for formats that the core does not know, and
pixels that a source decoded itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from largeds_native.errors import DecodeError
from largeds_native.pack import pillow
from largeds_native.pack.options import Options
from largeds_native.pack.rowspec import row_spec
from largeds_native.sources import Item
from largeds_native.store.npy import Array

CORE, PILLOW, PIXELS, NOBODY = 0, 1, 2, 3
DECODERS = ("core", "Pillow", "source", "none")

Watch = Callable[[int], None]  # called with the number of rows done; may raise to stop


@dataclass
class Clock:
    """Seconds that threads spent, summed over all of them, and bytes read."""

    read: float = 0.0
    decode: float = 0.0
    bytes_read: int = 0


@dataclass
class Rows:
    """What became of each item of a batch."""

    width: np.ndarray[Any, np.dtype[np.int32]]
    height: np.ndarray[Any, np.dtype[np.int32]]
    decoder: np.ndarray[Any, np.dtype[np.uint8]]
    errors: dict[int, tuple[str, str]] = field(default_factory=dict)  # item -> (reason, message)

    @classmethod
    def empty(cls, n: int) -> Rows:
        return cls(np.zeros(n, np.int32), np.zeros(n, np.int32), np.full(n, NOBODY, np.uint8))

    def good(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        mask = np.ones(len(self.width), bool)
        mask[list(self.errors)] = False
        return np.flatnonzero(mask)


class Engine:
    """Turns items into rows of one size, with so many threads. Use from one thread."""

    def __init__(self, options: Options, size: tuple[int, int], threads: int) -> None:
        self._options = options
        self._size = size
        self._threads = threads
        self._spec = row_spec(options, size)
        self._chunk = 64
        self.clock = Clock()

    def rows(self, items: list[Item], out: Array, watch: Watch) -> Rows:
        """Writes row i of `out` (n, bytes of a row) from item i; rows of failed items are left as they are."""
        rows = Rows.empty(len(items))
        encoded = [i for i, item in enumerate(items) if not isinstance(item, np.ndarray)]
        if len(encoded) == len(items):
            self._encoded(items, out, rows, watch)
        elif not encoded:
            self._pixels(items, out, rows, watch)
        else:
            for i, item in enumerate(items):  # a source that mixes both is rare: one at a time
                part = self.rows([item], out[i : i + 1], lambda _: None)
                rows.width[i], rows.height[i], rows.decoder[i] = part.width[0], part.height[0], part.decoder[0]
                if part.errors:
                    rows.errors[i] = part.errors[0]
                watch(i + 1)
        return rows

    def _encoded(self, items: list[Any], out: Array, rows: Rows, watch: Watch) -> None:
        rows.decoder[:] = CORE
        self._run_core(items, out, rows, watch)
        foreign = [i for i, (reason, _) in rows.errors.items() if reason == "unsupported"]
        for i, result in self._parallel(lambda i: pillow.decode(items[i], self._options), foreign):
            self._place(i, result, PILLOW, out, rows)
            watch(len(items))
        rows.decoder[list(rows.errors)] = NOBODY
        watch(len(items))

    def _run_core(self, items: list[Any], out: Array, rows: Rows, watch: Watch) -> None:
        from largeds_native import _C

        low = 0
        while low < len(items):
            start = time.perf_counter()
            part = items[low : low + self._chunk]
            sources = [self._member(item) if isinstance(item, tuple) else item for item in part]
            results = _C.decode_to_rows(sources, out[low : low + len(part)], self._spec, self._threads)
            for i, (status, message, width, height, _) in enumerate(results, low):
                rows.width[i], rows.height[i] = width, height
                if status != "ok":
                    rows.errors[i] = (status, message)
            low += len(part)
            watch(low)
            self._adapt(len(part), time.perf_counter() - start)

    def _adapt(self, items: int, seconds: float) -> None:
        """Chunks of about a third of a second: rarely a pause between them, and a stop is heard soon."""
        self.clock.decode += seconds * self._threads
        if items == self._chunk:
            self._chunk = max(16, min(1 << 14, int(items * min(2.0, 0.33 / max(seconds, 1e-6)))))

    def _member(self, part: tuple[str, int, int]) -> bytes:
        """Bytes of a part of a file; none when it is gone, which then is the image's failure."""
        start = time.perf_counter()
        try:
            return pillow.read_bytes(part)
        except OSError:
            return b""
        finally:
            self.clock.read += (time.perf_counter() - start) * self._threads

    def _pixels(self, items: list[Any], out: Array, rows: Rows, watch: Watch) -> None:
        results = self._parallel(lambda i: pillow.to_mode(items[i], self._options), range(len(items)))
        for done, (i, result) in enumerate(results):
            self._place(i, result, PIXELS, out, rows)
            if done % 256 == 0:
                watch(done)
        watch(len(items))

    def _parallel(
        self, work: Callable[[int], Array], indices: Sequence[int]
    ) -> Iterator[tuple[int, Array | DecodeError]]:
        """(index, result or its error) in order, with a bounded number of results waiting."""

        def guarded(i: int) -> Array | DecodeError:
            try:
                return work(i)
            except DecodeError as error:
                return error

        if not indices:
            return
        with ThreadPoolExecutor(self._threads) as pool:
            for low in range(0, len(indices), 64):
                part = indices[low : low + 64]
                yield from zip(part, pool.map(guarded, part), strict=True)

    def _place(self, i: int, result: Array | DecodeError, decoder: int, out: Array, rows: Rows) -> None:
        """Row i from pixels (H, W, C) that the core did not decode."""
        from largeds_native import _C

        try:
            if isinstance(result, DecodeError):
                raise result
            rows.height[i], rows.width[i] = result.shape[:2]
            _C.pixels_to_row(result, out[i], self._spec)
        except DecodeError as error:
            rows.errors[i] = (getattr(error, "reason", "shape"), str(error))
            rows.decoder[i] = NOBODY
        else:
            rows.errors.pop(i, None)
            rows.decoder[i] = decoder
