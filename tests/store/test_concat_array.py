from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from largeds_native.errors import RowIndexError
from largeds_native.store.concat_array import ConcatArray


def joined(sizes: list[int]) -> tuple[ConcatArray, np.ndarray]:
    whole = np.arange(sum(sizes) * 6, dtype=np.int16).reshape(-1, 2, 3)
    parts = np.split(whole, np.cumsum(sizes)[:-1])
    return ConcatArray(sizes, (2, 3), whole.dtype, parts.__getitem__), whole


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.data())
@settings(max_examples=50, deadline=None)
def test_indexing_is_numpys(sizes: list[int], data: Any) -> None:
    array, whole = joined(sizes)
    assert array.shape == whole.shape
    assert array.ndim == 3
    assert array.nbytes == whole.nbytes
    np.testing.assert_array_equal(np.asarray(array), whole)
    np.testing.assert_array_equal(list(array) if len(whole) else whole, whole)
    part = data.draw(st.slices(len(whole)))
    np.testing.assert_array_equal(array[part], whole[part])
    np.testing.assert_array_equal(array[part, 1], whole[part, 1])
    if len(whole):
        index = data.draw(st.lists(st.integers(-len(whole), len(whole) - 1), max_size=7))
        np.testing.assert_array_equal(array[index], whole[np.asarray(index, int)])
        np.testing.assert_array_equal(array[np.asarray(index, int).reshape(1, -1)], whole[np.asarray(index, int)][None])
        row = data.draw(st.integers(-len(whole), len(whole) - 1))
        np.testing.assert_array_equal(array[row], whole[row])
        np.testing.assert_array_equal(array[row, :, 2], whole[row, :, 2])
    mask = np.asarray(data.draw(st.lists(st.booleans(), min_size=len(whole), max_size=len(whole))), bool)
    np.testing.assert_array_equal(array[mask], whole[mask])


@pytest.mark.parametrize("bad", [5, -6, [0, 5], [1.5], np.ones(4, bool), np.array(["a"])])
def test_bad_indices(bad: Any) -> None:
    array, _ = joined([2, 3])
    with pytest.raises(RowIndexError):
        array[bad]


KEYS: list[Any] = [
    np.array(3),
    torch.tensor(3),
    (np.array(3), 1),
    (torch.tensor(3), slice(None), 2),
    ([0, 5], [0, 1]),
    ([0, 5], slice(None), [0, 2]),
    ([[0], [5]], [0, 1]),
    (slice(1, 6), [0, 1], [0, 2]),
    Ellipsis,
    (Ellipsis, 1),
    (3, Ellipsis, 1),
    (Ellipsis, [0, 1], [0, 2]),
    None,
    (None, 3),
    (None, Ellipsis, 2),
    (np.arange(7) % 2 == 0, 1),
    (np.arange(7) % 2 == 0, [0, 1, 0, 1]),
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_indexing_in_several_dimensions_is_numpys(key: Any) -> None:
    array, whole = joined([2, 4, 1])
    np.testing.assert_array_equal(array[key], whole[key])


@pytest.mark.parametrize("key", [True, np.True_, np.array([2**64 - 1], np.uint64), 7, np.array(7), 1.5])
def test_what_is_no_row_number(key: Any) -> None:
    array, _ = joined([2, 4, 1])
    with pytest.raises((RowIndexError, TypeError)):
        array[key]
