"""The contents of each batch of an epoch, from any position on."""

from __future__ import annotations

import itertools
import operator
import zlib
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler

from largeds_native.errors import ArgumentError, RowIndexError, StateError
from largeds_native.loading import torch_samplers
from largeds_native.loading.cursor import Progress
from largeds_native.loading.order import Int64Array, Order
from largeds_native.loading.partition import Partition

BOOLS = (bool, np.dtype(bool), torch.bool)
SKIPPED_AT_ONCE = 4096  # elements of a sampler


@dataclass(frozen=True)
class PlannedBatch:
    """One batch: its samples, the keys of its random draws (None: the samples), and the progress after it."""

    samples: Int64Array
    keys: Int64Array | None
    after: Progress


@dataclass(frozen=True)
class OrderPlan:
    """Batches of an `Order`: any position can be computed directly, and the ranks share each global batch."""

    order: Order
    batch_size: int
    partition: Partition
    drop_last: bool

    @property
    def length(self) -> int:
        return self.order.length

    def for_partition(self, partition: Partition) -> OrderPlan:
        """The same for other ranks."""
        return replace(self, partition=partition)

    def __len__(self) -> int:
        return self.remaining(0)

    def remaining(self, start: int) -> int:
        """Batches from position `start` to the epoch's end, for this rank."""
        return self.partition.count(self.length - start, self.batch_size, self.drop_last)

    def batches(self, epoch: int, start: Progress) -> Iterator[PlannedBatch]:
        for first, count, after in self.partition.batches(self.length, start.position, self.batch_size, self.drop_last):
            samples = self.order.wrapped(epoch, first, count)
            # keyed by position, a sample that comes twice gets two different augmentations
            keys = np.arange(first, first + count) if self.order.repeats else None
            yield PlannedBatch(samples, keys, Progress(after))

    def padding(self, start: int) -> int:
        """How many samples at the end of this rank's batches, from position `start` on, only fill up the last batch:
        they come from the start of the epoch, and another rank has them too."""
        return self.partition.padding(self.length - start, self.batch_size, self.drop_last)

    @cached_property
    def fingerprint(self) -> int:
        return zlib.crc32(repr(self.order.describe()).encode())


class SamplerPlan:
    """Batches of a torch Sampler or BatchSampler, or any other collection of numbers or of lists of numbers.

    The sampler has its own length and order, and itself divides samples among ranks. `set_epoch` is called if it or a
    sampler inside it has one, and torch's random samplers draw by (seed, epoch). On resume, it is iterated from its
    start and the samples already seen are skipped; a checksum tells whether they are the same as then.

    Raises ArgumentError for an iterator, as it has only one epoch.
    """

    def __init__(self, sampler: Iterable[Any], batch_size: int | None, drop_last: bool, seed: int) -> None:
        if isinstance(sampler, Iterator):
            raise ArgumentError(
                f"order: expected a Sampler or a collection that can be iterated over once an epoch, found a "
                f"{type(sampler).__name__}, which is empty after the first. list(...) of it is a collection"
            )
        first = sampler[0] if isinstance(sampler, (list, tuple, np.ndarray, Tensor)) and len(sampler) else None
        if isinstance(sampler, (bytes, bytearray)) or getattr(first, "dtype", type(first)) in BOOLS:
            raise ArgumentError(
                f"order: expected row numbers, found {type(sampler).__name__} of bools or bytes; a mask is for indices="
            )
        batched = batch_size is None or isinstance(sampler, BatchSampler)
        self.sampler, self.drop_last, self._seed = sampler, drop_last, seed
        self.batch_size = None if batched else batch_size

    @property
    def length(self) -> int | None:
        """Its own, asked for each time: it may depend on the epoch."""
        return len(self.sampler) if isinstance(self.sampler, Sized) else None

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

    def batches(self, epoch: int, start: Progress) -> Iterator[PlannedBatch]:
        torch_samplers.set_epoch(self.sampler, epoch)
        elements = iter(torch_samplers.keyed(self.sampler, self._seed, epoch))
        position, digest = self._skip(elements, start)
        step = 1 if self.batch_size is None else self.batch_size
        while batch := list(itertools.islice(elements, step)):
            if len(batch) < step and self.drop_last:
                return
            samples = self._checked(batch if self.batch_size is not None else batch[0])
            keys = self._keys(samples, position)
            position, digest = position + len(batch), zlib.crc32(samples.tobytes(), digest)
            yield PlannedBatch(samples, keys, Progress(position, digest))

    def _skip(self, elements: Iterator[Any], start: Progress) -> Progress:
        """Skips what was already delivered; StateError if the sampler gives something else this time."""
        digest = 0
        passed = itertools.islice(elements, start.position)
        while chunk := list(itertools.islice(passed, SKIPPED_AT_ONCE)):
            for batch in [chunk] if self.batch_size is not None else chunk:
                digest = zlib.crc32(self._checked(batch).tobytes(), digest)
        if digest != start.digest:
            raise StateError(
                f"{type(self.sampler).__name__} gives another order than the one in which the state was taken, so the "
                "epoch can't go on exactly. With a sampler, each rank goes on from its own state, and the order must "
                "depend on set_epoch(epoch) alone; or use shuffle=True"
            )
        return start

    def _keys(self, samples: Int64Array, position: int) -> Int64Array:
        """Keys that depend on position too, so that a sample which comes twice gets two different augmentations.
        With a batch sampler, the position is the batch and the index in it."""
        offset = position if self.batch_size is not None else position << 20
        positions = np.arange(len(samples), dtype=np.uint64) + np.uint64(offset)
        return (positions * np.uint64(0x9E3779B97F4A7C15) + samples.astype(np.uint64)).view(np.int64)

    def _checked(self, batch: Any) -> Int64Array:
        kind = type(self.sampler).__name__
        try:
            samples = np.array([operator.index(sample) for sample in batch], np.int64)
        except TypeError:
            expected = "lists of numbers, since batch_size is None" if self.batch_size is None else "numbers"
            raise ArgumentError(f"expected {kind} to give {expected}, found {batch!r:.100}") from None
        except OverflowError:
            raise RowIndexError(f"expected {kind} to give row numbers, found some beyond 64 bits") from None
        if not len(samples):
            raise ArgumentError(f"{kind} gave an empty batch")
        return samples

    @cached_property
    def fingerprint(self) -> int:
        return zlib.crc32(repr((self._seed, torch_samplers.fingerprint(self.sampler))).encode())
