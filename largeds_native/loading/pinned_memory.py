"""Memory of mapped files that is pinned for CUDA devices, and copies of many pieces of it by one call."""

from __future__ import annotations

import ctypes
import functools
import os
import re
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from largeds_native.errors import ArgumentError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Of cudaHostRegister: for all devices (portable), mapped, and read-only, as the files are.
REGISTER_FLAGS = 0x01 | 0x02 | 0x08

Pin = tuple[int, int]  # address and bytes


class PinnedMemory:
    """What this process has pinned. CUDA pins memory only once, so each piece is counted.

    Pieces are released by finalizers, which may run at any moment in any thread, in the middle of `pin`, too. So a
    release is only noted, and made by whoever finds that nobody else is at work.
    """

    def __init__(self, runtime: Callable[[], Any]) -> None:
        self._runtime = runtime
        self._lock = threading.Lock()
        self._counts: dict[Pin, int] = {}
        self._released: deque[tuple[Sequence[Pin], object]] = deque()

    def bytes_beside(self, pins: Sequence[Pin]) -> int:
        """Of what is pinned but not among these."""
        return sum(size for _, size in {*self._counts} - {*pins})

    def pin(self, address: int, size: int) -> int:
        """CUDA's error, or 0."""
        try:
            with self._lock:
                if (address, size) not in self._counts:
                    if code := int(self._runtime().cudaHostRegister(address, size, REGISTER_FLAGS)):
                        return code
                    self._counts[address, size] = 0
                self._counts[address, size] += 1
            return 0
        finally:
            self._unpin_released()

    def release(self, process: int, pins: Sequence[Pin], owner: object) -> None:
        """Undo each `pin`, in the process that made them. `owner` keeps the memory mapped until then."""
        if process == os.getpid():
            self._released.append((pins, owner))
            self._unpin_released()

    def _unpin_released(self) -> None:
        while self._released and self._lock.acquire(blocking=False):
            try:
                pins, _owner = self._released.popleft()
                for pin in pins:
                    self._counts[pin] -= 1
                    if not self._counts[pin]:
                        del self._counts[pin]
                        if code := int(self._runtime().cudaHostUnregister(pin[0])):
                            error_text(code)
            finally:
                self._lock.release()


PINNED = PinnedMemory(lambda: torch.cuda.cudart())  # type: ignore[no-untyped-call]


def error_text(code: int) -> str:
    """What an error means; torch will not raise it at its next call, as it would."""
    _runtime().cudaGetLastError()
    return str(torch.cuda.CudaError(code))


@functools.cache
def _runtime() -> ctypes.CDLL:
    """The CUDA runtime that torch uses, which is loaded already."""
    major = (torch.version.cuda or "").split(".")[0]
    try:
        return ctypes.CDLL(f"libcudart.so.{major}")
    except OSError as error:
        raise ArgumentError(f"pin_rows: the CUDA runtime of torch was not found: {error}. Use pin_rows=False") from None


class _Attributes(ctypes.Structure):
    """cudaMemcpyAttributes: the order of the source's reads, hints for managed memory, and flags."""

    _fields_ = (
        ("source_order", ctypes.c_int),
        ("source_hint", ctypes.c_int * 2),
        ("target_hint", ctypes.c_int * 2),
        ("flags", ctypes.c_uint),
    )


Copies = Callable[["NDArray[np.uintp]", "NDArray[np.uintp]", "NDArray[np.uintp]", Any], int]


@functools.cache
def copy_function() -> Copies:
    """cudaMemcpyBatchAsync, called with (targets, sources, sizes, stream), without the GIL, which ctypes releases."""
    version = tuple(map(int, re.findall(r"\d+", torch.version.cuda or "")[:2]))
    call = getattr(_runtime(), "cudaMemcpyBatchAsync", None) if version >= (12, 8) else None
    if call is None:
        found = torch.version.cuda or "none"
        raise ArgumentError(f"pin_rows: CUDA 12.8 or newer is needed, and torch has {found}. Use pin_rows=False")
    in_stream_order = 1  # cudaMemcpySrcAccessOrderStream
    attributes = _Attributes(source_order=in_stream_order)
    first, failed = ctypes.c_size_t(0), ctypes.c_size_t()
    call.restype = ctypes.c_int

    def copy(targets: NDArray[np.uintp], sources: NDArray[np.uintp], sizes: NDArray[np.uintp], stream: Any) -> int:
        arrays = [ctypes.c_void_p(array.ctypes.data) for array in (targets, sources, sizes)]
        options = [ctypes.byref(attributes), ctypes.byref(first), ctypes.c_size_t(1)]
        if version < (13, 0):  # it tells which copy failed
            options.append(ctypes.byref(failed))
        return int(call(*arrays, ctypes.c_size_t(len(sizes)), *options, ctypes.c_void_p(stream.cuda_stream)))

    return copy
