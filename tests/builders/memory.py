"""How much memory something takes."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from pathlib import Path

import pytest


def status_bytes(name: str) -> int:
    """A line of /proc/self/status: VmRSS is the memory in use, VmHWM the most of it so far."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def peak_of(work: Callable[[], object]) -> int:
    """By how many bytes the process grows while `work` runs."""
    gc.collect()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    except OSError:
        pytest.skip("the kernel does not forget a peak of memory here")
    before = status_bytes("VmRSS")
    work()
    return status_bytes("VmHWM") - before
