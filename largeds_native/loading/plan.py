"""The contents of each batch of an epoch, from any position on."""

from __future__ import annotations

import itertools
import operator
import zlib
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from torch.utils.data import BatchSampler

from largeds_native.errors import ArgumentError
from largeds_native.loading.order import Numbers, Order, Weighted
from largeds_native.loading.partition import Partition


@dataclass(frozen=True)
class PlannedBatch:
    """One batch: its samples, the keys of its random draws (None: the samples), and the position after it."""

    samples: Numbers
    keys: Numbers | None
    after: int


class OrderPlan:
    """Batches of an `Order`: any position can be computed directly, and the ranks share each global batch."""

    def __init__(self, order: Order, batch_size: int, partition: Partition, drop_last: bool) -> None:
        self.order, self.batch_size, self.partition, self.drop_last = order, batch_size, partition, drop_last
        self.length = order.length

    def __len__(self) -> int:
        return self.remaining(0)

    def remaining(self, start: int) -> int:
        """Batches from position `start` to the epoch's end, for this rank."""
        return self.partition.count(self.length - start, self.batch_size, self.drop_last)

    def batches(self, epoch: int, start: int) -> Iterator[PlannedBatch]:
        for first, count, after in self.partition.batches(self.length, start, self.batch_size, self.drop_last):
            samples = self.order.wrapped(epoch, first, count)
            # drawn with replacement: keyed by position, a sample that comes twice gets two different augmentations
            keys = np.arange(first, first + count) if isinstance(self.order, Weighted) else None
            yield PlannedBatch(samples, keys, after)

    @cached_property
    def fingerprint(self) -> int:
        return zlib.crc32(repr(self.order.describe()).encode())


class SamplerPlan:
    """Batches of a torch Sampler or BatchSampler, or any other collection of numbers or of lists of numbers.

    The sampler has its own length and order, and itself divides samples among ranks; its `set_epoch` is called if it
    has one. On resume, it is iterated from its start and the samples already seen are skipped, so it must give the same
    order for the same epoch.
    """

    def __init__(self, sampler: Iterable[Any], batch_size: int | None, drop_last: bool) -> None:
        batched = batch_size is None or isinstance(sampler, BatchSampler)
        self.sampler, self.drop_last = sampler, drop_last
        self.batch_size = None if batched else batch_size
        self.length = len(sampler) if isinstance(sampler, Sized) else None

    def __len__(self) -> int:
        return self.remaining(0)

    def remaining(self, start: int) -> int:
        """Batches from position `start` to the epoch's end."""
        if self.length is None:
            raise TypeError(f"{type(self.sampler).__name__} has no length, so this loader has no length either")
        length = max(self.length - start, 0)
        if self.batch_size is None:
            return length
        return length // self.batch_size if self.drop_last else -(-length // self.batch_size)

    def batches(self, epoch: int, start: int) -> Iterator[PlannedBatch]:
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)
        elements = itertools.islice(iter(self.sampler), start, None)
        step = 1 if self.batch_size is None else self.batch_size
        while batch := list(itertools.islice(elements, step)):
            if len(batch) < step and self.drop_last:
                return
            samples = self._checked(batch if self.batch_size is not None else batch[0])
            after = start + len(batch)
            yield PlannedBatch(samples, _keys(samples, start), after)
            start = after

    def _checked(self, batch: Any) -> Numbers:
        kind = type(self.sampler).__name__
        try:
            samples = np.array([operator.index(sample) for sample in batch], np.int64)
        except TypeError:
            expected = "lists of numbers, since batch_size is None" if self.batch_size is None else "numbers"
            raise ArgumentError(f"expected {kind} to give {expected}, found {batch!r:.100}") from None
        if not len(samples):
            raise ArgumentError(f"{kind} gave an empty batch")
        return samples

    @cached_property
    def fingerprint(self) -> int:
        return zlib.crc32(type(self.sampler).__name__.encode())


def _keys(samples: Numbers, position: int) -> Numbers:
    """Keys that depend on position too, so that a sample which comes twice gets two different augmentations."""
    offsets = (np.arange(len(samples), dtype=np.uint64) + np.uint64(position << 20)) * np.uint64(0x9E3779B97F4A7C15)
    return (offsets + samples.astype(np.uint64)).view(np.int64)
