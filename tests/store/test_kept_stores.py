"""Stores of each format version, as they were packed when it was new: whoever has one can open it for ever."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import largeds_native as lds

KEPT = Path(__file__).parent / "kept"
IDENTITIES = {"raw-1.lds": "49806e952c8dd6b9", "jpeg-2.lds": "efb66c3eda70e986", "masks-3.lds": "99c551b2f9e93a4e"}


def picture(i: int, height: int, width: int) -> np.ndarray[Any, Any]:
    """The image of sample i, (height, width, 3)."""
    values = 5 * np.arange(height)[:, None, None] + 3 * np.arange(width)[:, None] + 40 * np.arange(3) + 17 * i
    return (values % 256).astype(np.uint8)


@pytest.mark.parametrize("name", IDENTITIES)
def test_it_is_whole(name: str) -> None:
    store = lds.open(KEPT / name)
    assert store.manifest["version"] == int(name[-5])
    assert store.identity == IDENTITIES[name]
    assert len(store) == 4
    assert store.verify().ok
    assert store["label"][:].tolist() == [0, 1, 0, 1]
    assert store.samples["status"].to_pylist() == ["ok"] * 4
    assert store.report is not None
    batches = list(lds.Loader(store, 3, augment=lds.Augment(resized_crop=6), dtype=torch.uint8))
    assert [len(images) for images, _ in batches] == [3, 1]


@pytest.mark.parametrize("name", ["raw-1.lds", "masks-3.lds"])
def test_raw_rows(name: str) -> None:
    store = lds.open(KEPT / name)
    expected = np.stack([picture(i, 8, 8) for i in range(4)]).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(store.images[:], expected)


def test_a_field() -> None:
    assert lds.open(KEPT / "raw-1.lds")["vector"][:].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_masks() -> None:
    expected = np.stack([(np.arange(64).reshape(8, 8) + i) % 5 for i in range(4)])
    np.testing.assert_array_equal(lds.open(KEPT / "masks-3.lds")["mask"][:], expected)


def test_jpeg_rows() -> None:
    store = lds.open(KEPT / "jpeg-2.lds")
    assert store.sizes[:].tolist() == [[20 + i, 24] for i in range(4)]
    for i in range(4):
        difference = store[i][0].transpose(1, 2, 0).astype(int) - picture(i, 20 + i, 24)
        assert np.abs(difference).mean() < 12
    digest = hashlib.sha256(b"".join(store.encoded(i) for i in range(4))).hexdigest()
    assert digest[:16] == "e0ce5b1e7e96e97f"
