"""One batch of validation before the first step, so that what is wrong there doesn't wait for an epoch to be over."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from largeds_native.errors import ArgumentError
from largeds_native.loading import Loader
from largeds_native.trainer import batches
from largeds_native.trainer.accumulation import Accumulator
from largeds_native.trainer.buffers import BufferSnapshot
from largeds_native.trainer.evaluation import mean_loss
from largeds_native.trainer.metrics import Metrics
from largeds_native.trainer.precision import Precision
from largeds_native.trainer.random_state import OwnGenerators, RandomState
from largeds_native.trainer.weights import Loss


def try_validation(
    loader: Iterable[Any], accumulator: Accumulator, loss: Loss, precision: Precision, metrics: Metrics
) -> list[str] | None:
    """Evaluates on the loader's first batch that has samples; the names of the metrics' numbers, or None where
    they were not found out.

    Random states, also of generators that the loader's dataset, its transforms and samplers keep, the model's buffers,
    the metrics and the loader's position are left as they were. Only a loader that can surely be iterated again is
    tried: a list, a Loader, a DataLoader of a dataset with numbered items.
    """
    again = isinstance(loader, (list, tuple, Loader)) or (
        isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset)
    )
    if accumulator.ranks.max(float(not again))[0]:
        return None
    random, buffers, gathered = RandomState.now(), BufferSnapshot(accumulator.model), metrics.state_dict()
    try:
        mean_loss(_first_batch(loader, accumulator), accumulator, loss, precision, metrics)
        return _names(metrics)
    finally:
        metrics.reset()
        metrics.load_state_dict(gathered)
        buffers.restore()
        random.restore()


def _first_batch(loader: Any, accumulator: Accumulator) -> list[Any]:
    """In a list; the list is empty where this rank has none. The loader stands where it stood."""
    position = loader.state_dict() if isinstance(loader, Loader) else {}
    generators = OwnGenerators(loader)
    iterator = iter(loader)
    try:
        with_samples = (batch for batch in iterator if batches.length(batches.split_pair(batch)))
        first = list(itertools.islice(with_samples, 1))
    finally:
        if isinstance(loader, Loader):
            iterator.close()
            loader.load_state_dict(position)
        generators.restore()
    if accumulator.hold and accumulator.micro_batch is None:  # nobody knows yet how much fits into memory
        first = [batches.narrow(batch, 0, min(2, batches.length(batch))) for batch in first]
    return first


def _names(metrics: Metrics) -> list[str] | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one batch may have too few samples or classes for a metric
        try:
            return list(metrics.compute())
        except ArgumentError as error:
            if error.__cause__ is None:
                raise
            return None  # the metric's own error, which may be that of one batch alone
