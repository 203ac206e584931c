"""Epochs of a loader as lists, and a slow way to compute their batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def reference_batch(store: Any, labels: torch.Tensor) -> torch.Tensor:
    """The batch by ToTensor and Normalize, one image at a time."""
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
