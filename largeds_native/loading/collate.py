"""Samples of a dataset that know their gathered batch, so that collating them needs no copy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import default_collate

try:  # torch's documented way to extend default_collate to a custom type
    from torch.utils.data._utils.collate import default_collate_fn_map
except ImportError:  # without it, samples are plain tuples and dicts, which default_collate copies into a batch
    default_collate_fn_map = None  # type: ignore[assignment]


class Sample(tuple[Any, ...]):
    """(image, *fields) with the batch of which the image is a view, and its index there."""

    batch: Tensor
    index_in_batch: int

    def __new__(cls, members: Iterable[Any], batch: Tensor, index: int) -> Sample:
        sample = super().__new__(cls, members)
        sample.batch, sample.index_in_batch = batch, index
        return sample

    def __reduce__(self) -> tuple[Any, ...]:
        return (tuple, (tuple(self),))


class NamedSample(dict[str, Any]):
    """The same as a dict: the first key is the image's. `image` is the view itself, as a value of a dict can change."""

    def __init__(self, members: Iterable[tuple[str, Any]], batch: Tensor, index: int) -> None:
        super().__init__(members)
        self.batch, self.index_in_batch = batch, index
        self.image = next(iter(self.values()))

    def __reduce__(self) -> tuple[Any, ...]:
        return (dict, (dict(self),))


def values_of(values: NDArray[Any]) -> Sequence[Any]:
    """The values of a field: integers are ints, which collate to int64; vectors and floats are tensors, which keep
    their dtype and shape."""
    plain = values.ndim == 1 and values.dtype.kind not in "fc"
    return values.tolist() if plain else list(torch.as_tensor(np.array(values)))


def samples_of(batch: Tensor, columns: Sequence[Sequence[Any]], keys: tuple[str, ...] | None) -> list[Any]:
    """A Sample, or with keys a NamedSample, of each image of the batch with its values in `columns`."""
    rows = enumerate(zip(batch.unbind(0), *columns, strict=True))
    if keys is None:
        return [Sample(members, batch, index) for index, members in rows]
    return [NamedSample(zip(keys, members, strict=True), batch, index) for index, members in rows]


def collate_samples(samples: list[Any], *, collate_fn_map: Any = None) -> Any:
    """The result of default_collate, without a copy of the images if the samples are one whole gathered batch."""
    first: Any = samples[0]
    plain = tuple if isinstance(first, tuple) else dict
    if not _are_whole(samples):
        return default_collate([plain(sample) for sample in samples])
    if plain is tuple:
        return [first.batch, *(default_collate(list(column)) for column in list(zip(*samples, strict=True))[1:])]
    image, *others = first
    return {image: first.batch} | {key: default_collate([sample[key] for sample in samples]) for key in others}


def _are_whole(samples: list[Any]) -> bool:
    """Whether these are all samples of one gathered batch, in order and with their images."""
    first = samples[0]
    return len(first.batch) == len(samples) and all(
        type(sample) is type(first)
        and sample.batch is first.batch
        and sample.index_in_batch == index
        and (isinstance(sample, tuple) or _has_its_image(sample, first))
        for index, sample in enumerate(samples)
    )


def _has_its_image(sample: NamedSample, first: NamedSample) -> bool:
    return list(sample) == list(first) and next(iter(sample.values()), None) is sample.image


COLLATES_WHOLE = default_collate_fn_map is not None
if COLLATES_WHOLE:
    default_collate_fn_map[Sample] = default_collate_fn_map[NamedSample] = collate_samples
