"""Items of a dataset that know their gathered batch, so that collating them needs no copy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import default_collate

try:  # torch's documented way to extend default_collate to a custom type
    from torch.utils.data._utils.collate import default_collate_fn_map
except ImportError:  # without it, items are plain pairs, which default_collate copies into a batch
    default_collate_fn_map = None  # type: ignore[assignment]


class Sample(tuple[Any, ...]):
    """(image, label) with the batch of which the image is a view, and its index there."""

    batch: Tensor
    index_in_batch: int

    def __new__(cls, pair: tuple[Tensor, Any], batch: Tensor, index: int) -> Sample:
        sample = super().__new__(cls, pair)
        sample.batch, sample.index_in_batch = batch, index
        return sample

    def __reduce__(self) -> tuple[Any, ...]:
        return (tuple, (tuple(self),))


def items_of(
    batch: Tensor | list[Tensor], labels: NDArray[Any] | None, transform: Callable[[Tensor], Any] | None, whole: bool
) -> list[Any]:
    """(image, label) for each image of the batch, or the images. `whole`: as Samples, which collate without a copy; not
    for a list.

    Integer labels are ints, which collate to int64; vectors and floats are tensors, which keep dtype and shape.
    """
    images: Any = batch.unbind(0) if isinstance(batch, Tensor) else batch
    if transform is not None:
        images = [transform(image) for image in images]
    if labels is None:
        return list(images)
    plain = labels.ndim == 1 and labels.dtype.kind not in "fc"
    values = labels.tolist() if plain else list(torch.as_tensor(np.array(labels)))
    pairs = zip(images, values, strict=True)
    if not whole or not isinstance(batch, Tensor):
        return list(pairs)
    return [Sample(pair, batch, index) for index, pair in enumerate(pairs)]


def collate_samples(samples: list[Any], *, collate_fn_map: Any = None) -> Any:
    """The result of default_collate, without a copy if the samples are one whole gathered batch."""
    batch = getattr(samples[0], "batch", None)
    if batch is None or len(batch) != len(samples):
        return default_collate([tuple(sample) for sample in samples])
    for index, sample in enumerate(samples):
        if not isinstance(sample, Sample) or sample.batch is not batch or sample.index_in_batch != index:
            return default_collate([tuple(sample) for sample in samples])
    return [batch, default_collate([sample[1] for sample in samples])]


COLLATES_WHOLE = default_collate_fn_map is not None
if COLLATES_WHOLE:
    default_collate_fn_map[Sample] = collate_samples
