"""Compiles limits.cpp, and calls it from several threads (ctypes releases the GIL)."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np


@cache
def library() -> Any:
    out = Path(tempfile.mkdtemp()) / "limits.so"
    source = Path(__file__).with_name("limits.cpp")
    command = ["c++", "-O3", "-march=native", "-shared", "-fPIC", "-o", str(out), str(source)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(out))


def _address(array: np.ndarray, byte: int = 0) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data + byte)


KINDS = {"uint8": np.uint8, "float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}


class Limit:
    """Fills the same batch buffer, 64-byte aligned, from a mapped (N, C, H, W) uint8 array.

    `kind` is the name of the batch's dtype. uint8 rows are copied, by memcpy or, with `stream`, past the caches."""

    def __init__(
        self,
        images: np.ndarray,
        batch: int,
        threads: int,
        kind: str,
        mean: Any = None,
        std: Any = None,
        *,
        stream: bool = False,
    ):
        self.images, self.threads, self.kind, self.dtype = images, threads, kind, np.dtype(KINDS[kind])
        self.copy = library().stream_rows if stream else library().copy_rows
        self.row = int(np.prod(images.shape[1:]))
        buffer = np.zeros(batch * self.row * self.dtype.itemsize + 64, np.uint8)
        start = -buffer.ctypes.data % 64
        self.out = buffer[start : start + batch * self.row * self.dtype.itemsize]
        self.pool = ThreadPoolExecutor(threads)
        if mean is not None:
            self.multiply = np.asarray(1 / (255 * np.asarray(std)), np.float32)
            self.add = np.asarray(-np.asarray(mean) / np.asarray(std), np.float32)

    def fill(self, rows: np.ndarray) -> None:
        parts = [part for part in np.array_split(np.arange(len(rows)), self.threads) if len(part)]
        list(self.pool.map(lambda part: self._part(rows[part[0] : part[-1] + 1], int(part[0])), parts))

    def _part(self, rows: np.ndarray, first: int) -> None:
        out = _address(self.out, first * self.row * self.dtype.itemsize)
        n, indices = ctypes.c_int64(len(rows)), _address(rows)
        if self.kind == "uint8":
            self.copy(_address(self.images), ctypes.c_int64(self.row), indices, n, out)
        else:
            channels = self.images.shape[1]
            scale = _address(self.multiply), _address(self.add)
            plane = ctypes.c_int64(self.row // channels)
            kind = ctypes.c_int(["float32", "float16", "bfloat16"].index(self.kind))
            count = ctypes.c_int(channels)
            library().normalise_rows(_address(self.images), plane, count, indices, n, *scale, out, kind)
