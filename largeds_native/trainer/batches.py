"""A batch as the loop sees it: `(inputs, targets)`, cut into micro-batches that are views."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from largeds_native.errors import ArgumentError


def split_pair(batch: Any) -> tuple[Any, Any]:
    """`(inputs, targets)` of a loader's batch; with more than two members the targets are a tuple."""
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        found = f"{type(batch).__name__} of {len(batch)}" if isinstance(batch, (tuple, list)) else type(batch).__name__
        raise ArgumentError(f"expected the loader to give (inputs, targets), found {found}")
    return batch[0], batch[1] if len(batch) == 2 else tuple(batch[1:])


def length(batch: Any) -> int:
    """The number of samples: the first dimension of every tensor in the batch, which must agree."""
    sizes = {t.shape[0] if t.dim() else -1 for t in _tensors(batch)}
    if len(sizes) != 1 or -1 in sizes:
        found = sorted(sizes) if sizes else "no tensor"
        raise ArgumentError(f"expected tensors with the same first dimension in a batch, found {found}")
    return sizes.pop()


def narrow(batch: Any, start: int, count: int) -> Any:
    """Samples start .. start + count of the batch; tensors are views, nothing is copied."""
    if isinstance(batch, Tensor):
        return batch.narrow(0, start, count)
    if isinstance(batch, dict):
        return {key: narrow(value, start, count) for key, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return tuple(narrow(value, start, count) for value in batch)
    return batch


def to_device(batch: Any, device: torch.device | None) -> Any:
    """The batch on the device; copies from pinned memory don't wait."""
    if device is None:
        return batch
    if isinstance(batch, Tensor):
        return batch if batch.device == device else batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        moved = [to_device(value, device) for value in batch]
        return moved if isinstance(batch, list) else tuple(moved)
    return batch


def _tensors(batch: Any) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, dict):
        for value in batch.values():
            yield from _tensors(value)
    elif isinstance(batch, (tuple, list)):
        for value in batch:
            yield from _tensors(value)
