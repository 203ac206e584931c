"""The parts of `largeds doctor`: which pages are read, and the location of rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import largeds_native as lds
from largeds_native.profile.doctor.parts import PAGE, _pieces, read_rates, row_ranges


def test_pages_are_read_once() -> None:
    pieces = _pieces([("b", 0, 1), ("a", 10, 10), ("a", 30, PAGE), ("a", 5 * PAGE, 1)])
    assert pieces == [("a", 0, 2 * PAGE), ("a", 5 * PAGE, PAGE), ("b", 0, PAGE)]
    assert _pieces([("a", 0, 3 << 20)]) == [("a", i << 20, 1 << 20) for i in range(3)]


def test_rows_are_found_in_their_shards(tmp_path: Path) -> None:
    images = np.arange(7 * 12, dtype=np.uint8).reshape(7, 3, 2, 2)
    store = lds.pack((images, np.arange(7)), tmp_path / "s.lds", resize=None, crop=None, shard_bytes=36, progress=False)
    for row, ((path, offset, size),) in enumerate(row_ranges(store, list(range(7)))):
        assert Path(path).read_bytes()[offset : offset + size] == images[row].tobytes()
    cold, warm, read = read_rates(row_ranges(store, list(range(7))), 1, 2)
    assert (cold > 0, warm > 0, read) == (True, True, 7)
