"""torch's samplers as functions of (seed, epoch), what tells two of them apart, and what they give to each rank."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Iterator, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from largeds_native.loading.shuffle_sampler import ShuffleSampler

RANDOM_SAMPLERS = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)  # they draw from `.generator`
MASK = (1 << 63) - 1


def nested(outer: Any) -> Iterator[Any]:
    """A loader, sampler or batch sampler, and the samplers inside it, each once: DataLoader and BatchSampler keep
    theirs as `sampler` and `batch_sampler`."""
    pending, seen = [outer], set()
    while pending:
        part = pending.pop(0)
        if part is None or id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        pending += [getattr(part, "batch_sampler", None), getattr(part, "sampler", None)]


def set_epoch(outer: Any, epoch: int) -> None:
    """Tells the epoch to whatever in `outer` has a `set_epoch`, however deeply it is nested."""
    for part in nested(outer):
        if hasattr(part, "set_epoch"):
            part.set_epoch(epoch)


@dataclass(frozen=True)
class Share:
    """What a sampler gives to one of several ranks: every world_size-th position of an epoch of `samples`."""

    samples: int
    length: int  # of this rank's part
    rank: int
    world_size: int

    @property
    def padding(self) -> int:
        """How many at the end of this rank's part, 0 or 1, lie beyond the samples and come from the epoch's start."""
        return int((self.length - 1) * self.world_size + self.rank >= self.samples)


def share_of(sampler: Any) -> Share | None:
    """None for a sampler that gives the same to all ranks."""
    if isinstance(sampler, DistributedSampler):
        samples = len(sampler.dataset)  # type: ignore[arg-type]
        return Share(samples, len(sampler), sampler.rank, sampler.num_replicas)
    if isinstance(sampler, ShuffleSampler):
        return Share(sampler.n, len(sampler), sampler.rank, sampler.world_size)
    return None


def keyed(sampler: Any, seed: int, epoch: int) -> Any:
    """The sampler, with its draws a function of (seed, epoch) if it is one of torch's random ones, alone or in a
    BatchSampler. Neither it nor a generator of the user's is changed; the seed of such a generator counts too."""
    if type(sampler) in RANDOM_SAMPLERS:
        twin = copy.copy(sampler)
        words = [seed, epoch, 0 if sampler.generator is None else sampler.generator.initial_seed()]
        entropy = np.random.SeedSequence(words).generate_state(1, np.uint64)
        twin.generator = torch.Generator().manual_seed(int(entropy[0]) & MASK)
        return twin
    if type(sampler) is BatchSampler:
        twin = copy.copy(sampler)
        twin.sampler = keyed(sampler.sampler, seed, epoch)
        return twin
    return sampler


def fingerprint(sampler: Any) -> int:
    """What can be told of a sampler without iterating over it."""
    facts: list[Any] = []
    for part in nested(sampler):
        length = len(part) if isinstance(part, Sized) and not hasattr(part, "set_epoch") else None  # it may vary
        facts += [type(part).__name__, length]
        facts += [getattr(part, name, None) for name in ("batch_size", "drop_last", "replacement", "seed")]
        facts += [_checksum(getattr(part, name, None)) for name in ("weights", "indices")]
        generator = getattr(part, "generator", None)
        facts.append(generator.initial_seed() if isinstance(generator, torch.Generator) else None)
    return zlib.crc32(repr(facts).encode())


def _checksum(numbers: Any) -> int | None:
    if not isinstance(numbers, (list, tuple, range, np.ndarray, torch.Tensor)):
        return None  # a method of a tensor, a dict, an object: nothing that is the same in another process
    try:
        array = np.ascontiguousarray(numbers)
    except (TypeError, ValueError):
        return None
    return zlib.crc32(array.tobytes()) if array.dtype.kind in "biuf" else None
