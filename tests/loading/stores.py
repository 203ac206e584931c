"""Small stores for the loader's tests, and the slow way to make their batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

import largeds_native as lds

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def make_store(folder: Path, n: int = 100, side: int = 8, *, name: str = "s.lds", **options: Any) -> Any:
    """n random RGB images; image i has label i, so that a batch's labels say what is in it."""
    images = np.random.default_rng(n).integers(0, 256, (n, 3, side, side), np.uint8)
    words: dict[str, Any] = {"resize": None, "crop": None, "progress": False} | options
    return lds.pack((images, np.arange(n)), folder / name, **words)


def reference_batch(store: Any, labels: torch.Tensor) -> torch.Tensor:
    """What ToTensor and Normalize give, one image at a time."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    return torch.stack([(torch.from_numpy(np.array(store.images[i])) / 255 - mean) / std for i in labels.tolist()])


def labels_of(loader: Any) -> list[list[int]]:
    """One epoch: the labels of each batch."""
    return [labels.tolist() for _, labels in loader]


def epoch_of(loader: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """One epoch, every batch kept."""
    return list(loader)


def assert_same(ours: list[Any], expected: list[Any]) -> None:
    assert len(ours) == len(expected)
    for one, other in zip(ours, expected, strict=True):
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a, b)
