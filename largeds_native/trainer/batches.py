"""Batches as the training loop sees them: `(inputs, targets)`, split into micro-batches that are views."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from largeds_native.errors import ArgumentError
from largeds_native.trainer import graphs


def split_pair(batch: Any) -> tuple[Any, Any]:
    """`(inputs, targets)` of a loader's batch; with more than two members the targets are a tuple."""
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        found = type(batch).__name__
        if isinstance(batch, (tuple, list)):
            found += f" of {len(batch)}: a Loader has no targets if its store has no labels, as of images in one folder"
        elif isinstance(batch, dict):
            found += (
                f" with {sorted(map(str, batch))}: let the DataLoader's collate_fn return (inputs, targets), and leave "
                "out names= of a Loader or StoreDataset"
            )
        raise ArgumentError(f"expected the loader to yield (inputs, targets), found {found}")
    return batch[0], batch[1] if len(batch) == 2 else tuple(batch[1:])


def length(batch: Any) -> int:
    """The number of samples: the first dimension of every tensor and list in the batch, which must agree."""
    if isinstance(batch, tuple) and len(batch) == 2:  # nearly always two tensors, and asked for each micro-batch
        inputs, targets = batch
        if isinstance(inputs, Tensor) and isinstance(targets, Tensor) and inputs.ndim and targets.ndim:
            size: int = inputs.shape[0]
            if size == targets.shape[0]:
                return size
    sizes = set(_sizes(batch))
    if len(sizes) != 1 or -1 in sizes:
        found = sorted(sizes) if sizes else "no tensor"
        raise ArgumentError(f"expected tensors with the same first dimension in a batch, found {found}")
    return sizes.pop()


def narrow(batch: Any, start: int, count: int) -> Any:
    """Samples start .. start + count of the batch; tensors are views, nothing is copied."""
    if isinstance(batch, (Tensor, np.ndarray)) or _is_column(batch):
        return batch[start : start + count]
    if isinstance(batch, dict):
        return {key: narrow(value, start, count) for key, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return _like(batch, [narrow(value, start, count) for value in batch])
    return batch


def to_device(batch: Any, device: torch.device | None) -> Any:
    """The batch on the device; copies from pinned memory don't wait."""
    if device is None:
        return batch
    if isinstance(batch, Tensor):
        if batch.device == device:
            return batch
        if batch.is_meta:
            raise ArgumentError(f"a batch has a tensor on the device meta, which holds no values to send to {device}")
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return _like(batch, [to_device(value, device) for value in batch])
    return batch


def forward(model: Any, inputs: Any) -> Any:
    """The model's outputs; where it fails on a list, such as of the views of a Loader, the error says what it got."""
    try:
        return model(inputs)
    except (AttributeError, TypeError) as error:
        if not isinstance(inputs, list):
            raise
        raise ArgumentError(
            f"the loader gives {list_in_words(inputs)}, which the model's forward must take, and it raised "
            f"{type(error).__name__}: {error}"
        ) from error


def list_in_words(inputs: list[Any]) -> str:
    """ "a list of 2, (3, 224, 224) and (3, 96, 96)"."""
    kinds = (str(tuple(one.shape[1:])) if isinstance(one, Tensor) else type(one).__name__ for one in inputs)
    return f"a list of {len(inputs)}, {' and '.join(kinds)}"


def detach(outputs: Any) -> Any:
    """A model's outputs without their graph. Those of a CUDA graph are copied: its next run overwrites them, and a
    metric may keep them."""
    if isinstance(outputs, Tensor):
        return outputs.detach().clone() if graphs.in_use() else outputs.detach()
    if isinstance(outputs, dict):
        return _like(outputs, {key: detach(value) for key, value in outputs.items()})
    if isinstance(outputs, (tuple, list)):
        return _like(outputs, [detach(value) for value in outputs])
    return outputs


def elements(batch: Any) -> int:
    """The number of elements of all its tensors and arrays."""
    if isinstance(batch, Tensor):
        return batch.numel()
    if isinstance(batch, np.ndarray):
        return batch.size
    if isinstance(batch, dict):
        return sum(map(elements, batch.values()))
    return sum(map(elements, batch)) if isinstance(batch, (tuple, list)) else 0


def copy_of(batch: Any) -> Any:
    """The batch in memory of its own."""
    if isinstance(batch, Tensor):
        return batch.detach().clone()
    if isinstance(batch, np.ndarray):
        return batch.copy()
    if isinstance(batch, dict):
        return {key: copy_of(value) for key, value in batch.items()}
    if isinstance(batch, (tuple, list)) and not _is_column(batch):
        return _like(batch, [copy_of(value) for value in batch])
    return batch


def _like(original: Any, members: Any) -> Any:
    """The members in a container of the type of `original`."""
    if type(original) in (list, dict):
        return members
    if isinstance(original, dict):  # a user's class, such as a model's named outputs
        copied = copy.copy(original)
        for key, value in members.items():
            copied[key] = value
        return copied
    return type(original)(*members) if hasattr(original, "_fields") else tuple(members)


def _is_column(batch: Any) -> bool:
    """Whether this is a list with one plain value per sample, such as paths collated by a DataLoader."""
    if not isinstance(batch, (tuple, list)) or not batch:
        return False
    kind = type(batch[0])
    return kind in (str, bytes, int, float) and all(type(value) is kind for value in batch)


def _sizes(batch: Any) -> Iterator[int]:
    if isinstance(batch, (Tensor, np.ndarray)):
        yield batch.shape[0] if batch.ndim else -1
    elif isinstance(batch, dict):
        for value in batch.values():
            yield from _sizes(value)
    elif _is_column(batch):
        yield len(batch)
    elif isinstance(batch, (tuple, list)):
        for value in batch:
            yield from _sizes(value)
