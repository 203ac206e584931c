from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from largeds_native.errors import StoreError
from largeds_native.store.format import npy


@given(
    st.lists(st.integers(0, 1 << 40), min_size=0, max_size=8),
    st.sampled_from(["<u1", "<f2", "<i8", "<U7", "|S3", "|b1"]),
)
@settings(max_examples=50)
def test_header_is_numpys_and_4096_bytes(shape: list[int], dtype: str) -> None:
    head = npy.header_bytes(np.dtype(dtype), tuple(shape))
    assert len(head) == npy.DATA_OFFSET
    assert npy._read_header(head) == (tuple(shape), False, np.dtype(dtype))


def test_written_arrays_open_with_plain_numpy(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    npy.write_array(tmp_path / "a.npy", array)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert mapped.offset == 4096
    np.testing.assert_array_equal(mapped, array)
    npy.check_array(tmp_path / "a.npy", array.dtype, array.shape)
    npy.write_array(tmp_path / "b.npy", array[:0])
    assert np.load(tmp_path / "b.npy").shape == (0, 3, 4)
    npy.write_array(tmp_path / "c.npy", array.astype(">i4")[:, ::2])
    np.testing.assert_array_equal(np.load(tmp_path / "c.npy"), array[:, ::2])
    assert np.load(tmp_path / "c.npy").dtype.str == "<i4"


def test_foreign_files(tmp_path: Path) -> None:
    dtype, path = np.dtype("<i4"), tmp_path / "a.npy"

    def error(shape: tuple[int, ...] = (6,)) -> str:
        with pytest.raises(StoreError) as caught:
            npy.check_array(path, dtype, shape)
        return str(caught.value)

    assert "missing" in error()
    npy.write_array(path, np.arange(6, dtype=dtype))
    assert "expected int32 of shape (7,), found int32 of shape (6,)" in error((7,))
    path.write_bytes(path.read_bytes()[:-1])
    assert "is short: expected 4,120 bytes for int32 of shape (6,), found 4,119" in error()
    path.write_bytes(path.read_bytes() + b"xx")
    assert "too long" in error()
    path.write_bytes(b"")
    assert "not a .npy file" in error()
    path.write_bytes(b"PK\x03\x04" * 2000)
    assert "not a .npy file" in error()
    np.save(path, np.arange(6, dtype=dtype))
    assert "header of 4096 bytes" in error()
    np.save(path, np.array([{}], dtype=object))
    assert "found object" in error()
    np.save(path, np.asfortranarray(np.zeros((2, 3), dtype)))
    assert "Fortran" in error((2, 3))
