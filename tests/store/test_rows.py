"""The C++ rows of a store's files, against numpy."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch  # noqa: F401  (the extension needs torch's libraries loaded)
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from largeds_native import _C
from largeds_native.errors import RowIndexError, StorageError, StoreError

ROW = 24


def write_shards(folder: Path, sizes: list[int]) -> tuple[list[tuple[str, int, int]], np.ndarray]:
    rng = np.random.default_rng(len(sizes))
    rows = rng.integers(0, 256, (sum(sizes), ROW), dtype=np.uint8)
    shards, start = [], 0
    for number, size in enumerate(sizes):
        path = folder / f"{number}.bin"
        path.write_bytes(b"header!" + rows[start : start + size].tobytes())
        shards.append((str(path), 7, size))
        start += size
    return shards, rows


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6), data=st.data())
def test_rows_of_any_shards(tmp_path_factory: pytest.TempPathFactory, sizes: list[int], data: st.DataObject) -> None:
    shards, expected = write_shards(tmp_path_factory.mktemp("rows"), sizes)
    rows = _C.Rows(shards, ROW)
    assert len(rows) == len(expected)
    if len(expected):
        indices = data.draw(st.lists(st.integers(0, len(expected) - 1), max_size=20))
        np.testing.assert_array_equal(rows.read(np.array(indices, np.int64)), expected[indices])
        rows.will_need(np.array(indices, np.int64))


@pytest.mark.parametrize("index", [-1, 10, 2**40])
def test_an_index_outside(tmp_path: Path, index: int) -> None:
    shards, _ = write_shards(tmp_path, [4, 6])
    with pytest.raises(RowIndexError, match=f"row {index} is outside the store's 10 rows"):
        _C.Rows(shards, ROW).read([index])


def test_a_short_file_is_named(tmp_path: Path) -> None:
    shards, _ = write_shards(tmp_path, [4, 6])
    os.truncate(shards[1][0], 100)
    with pytest.raises(StoreError, match=r"1\.bin is short: expected at least 151 bytes, found 100"):
        _C.Rows(shards, ROW)


def test_a_file_truncated_while_open(tmp_path: Path) -> None:
    shards, _ = write_shards(tmp_path, [10])
    rows = _C.Rows(shards, ROW)
    os.truncate(shards[0][0], 100)
    with pytest.raises(StoreError, match="cut off while open"):
        rows.read([9])


@pytest.mark.parametrize("shard", [("missing", 0, 1), ("", -1, 1), ("", 0, -1), ("", 0, 2**62)])
def test_impossible_shards(tmp_path: Path, shard: tuple[str, int, int]) -> None:
    path = tmp_path / (shard[0] or "there")
    if not shard[0]:
        path.write_bytes(b"abc")
    with pytest.raises(StoreError, match=str(path)):
        _C.Rows([(str(path), *shard[1:])], ROW)


@pytest.mark.parametrize(("rows", "size"), [(-1, 3), (2**62, 3), (0, -1), (0, -(2**63)), (0, 4), (1, 3)])
def test_impossible_shards_of_jpeg_files(tmp_path: Path, rows: int, size: int) -> None:
    """A negative number of bytes would let any offset pass."""
    files = [tmp_path / name for name in ("images.bin", "offsets.npy", "size.npy")]
    for path in files:
        path.write_bytes(b"abc")
    files[1].write_bytes(bytes(8))
    with pytest.raises(StoreError, match=str(tmp_path)):
        _C.EncodedRows([(*map(str, files), "", rows, size)], 0)


def test_many_shards_hold_no_descriptors(tmp_path: Path) -> None:
    shards, expected = write_shards(tmp_path, [1] * 50)
    before = len(os.listdir("/proc/self/fd"))
    rows = _C.Rows(shards, ROW)
    np.testing.assert_array_equal(rows.read(np.arange(50)), expected)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("threads", [1, 3])
def test_hashes_and_damage(tmp_path: Path, threads: int) -> None:
    shards, expected = write_shards(tmp_path, [500])
    hashes = _C.hash_rows(expected, ROW, threads)
    assert hashes.tolist() == [xxhash.xxh3_64_intdigest(row.tobytes()) for row in expected]
    np.testing.assert_array_equal(_C.hash_file(shards[0], ROW, threads), hashes)
    np.testing.assert_array_equal(_C.hash_file_rows(shards[0][0], 7 + ROW * np.arange(501), threads), hashes)
    with open(shards[0][0], "r+b") as file:
        for row in (3, 499):
            file.seek(7 + row * ROW + 5)
            file.write(bytes([expected[row, 5] ^ 1]))
    assert np.flatnonzero(_C.hash_file(shards[0], ROW, threads) != hashes).tolist() == [3, 499]
    for offsets in ([0, 2**31], [0, 2**62]):  # before memory is asked for
        with pytest.raises(StoreError, match="its rows are beyond its end"):
            _C.hash_file_rows(shards[0][0], offsets, threads)
    for row_bytes in (ROW + 1, 2**62):
        with pytest.raises(StoreError, match="its rows are beyond its end"):
            _C.hash_file(shards[0], row_bytes, threads)
    for offsets in ([], [-1, 7], [9, 8]):
        with pytest.raises(StoreError, match="the offsets of its rows are not in order"):
            _C.hash_file_rows(shards[0][0], offsets, threads)


def test_reserving_space(tmp_path: Path) -> None:
    _C.reserve(str(tmp_path / "file"), 12345)
    status = (tmp_path / "file").stat()
    assert status.st_size == 12345
    assert status.st_blocks * 512 >= 12345
    with pytest.raises(StorageError, match="missing"):
        _C.reserve(str(tmp_path / "missing" / "file"), 1)
