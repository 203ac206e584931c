"""Metrics of an epoch: torchmetrics objects, or functions whose values are averaged over the samples."""

from __future__ import annotations

import copy
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from largeds_native.errors import ArgumentError
from largeds_native.trainer import batches, metric_state
from largeds_native.trainer.ranks import Ranks


class Mean:
    """The mean of `function(outputs, targets)` over all samples; the function returns the mean of a micro-batch."""

    def __init__(self, function: Any, ranks: Ranks) -> None:
        self._function, self._ranks = function, ranks
        self._total: float | Tensor = 0.0
        self._count = 0

    def update(self, outputs: Any, targets: Any) -> None:
        value, count = self._function(outputs, targets), batches.length(targets)
        if not isinstance(value, Tensor):
            value = float(value)
        elif value.numel() != 1:
            raise ArgumentError(f"expected one number, found a tensor of shape {tuple(value.shape)}")
        self._total = (
            self._total + (value.detach().double().reshape(()) if isinstance(value, Tensor) else value) * count
        )
        self._count += count

    def compute(self) -> float:
        total, count = self._ranks.sum(float(self._total), float(self._count))
        return total / count if count else float("nan")

    def reset(self) -> None:
        self._total, self._count = 0.0, 0

    def merge_state(self, other: Mean) -> None:
        self._total, self._count = self._total + other._total, self._count + other._count

    def state_dict(self) -> dict[str, Any]:
        return {"total": self._total, "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._total, self._count = state["total"], state["count"]


class Metrics:
    """A set of named metrics; each set has its own state, so training and validation don't mix.

    The members of a torchmetrics MetricCollection have the names that it gives them. ArgumentError names the metric
    that fails, or that gives something else than one number or a dict of numbers by their names.
    """

    def __init__(self, metrics: Mapping[str, Any] | None, ranks: Ranks, device: Any) -> None:
        self.metrics: dict[str, Any] = {}
        self._device = device
        self._lost: list[str] = []  # of what a loaded checkpoint doesn't have
        if metrics is not None and not hasattr(metrics, "items"):
            raise ArgumentError(f"expected metrics as a dict, name -> metric, found {type(metrics).__name__}")
        for name, metric in _members(metrics or {}):
            if name in self.metrics:
                raise ArgumentError(f"two metrics have the name {name!r}: give the MetricCollection a prefix")
            if isinstance(metric, type):
                raise ArgumentError(f"expected metric {name!r} to be an object, found a class: {metric.__name__}(...)")
            if hasattr(metric, "update") and hasattr(metric, "compute"):
                metric = copy.deepcopy(metric)
                self.metrics[name] = metric.to(device) if hasattr(metric, "to") else metric
            elif callable(metric):
                self.metrics[name] = Mean(metric, ranks)
            else:
                raise ArgumentError(f"expected metric {name!r} to be a torchmetrics object or a function")
        self._initial = {name: metric_state.values_of(metric) for name, metric in self.metrics.items()}

    @property
    def names(self) -> list[str]:
        """Of the metrics; one that gives a dict of numbers has the dict's names instead."""
        return list(self.metrics)

    @property
    def names_are_known(self) -> bool:
        """A function gives one number; an object may give a dict."""
        return all(isinstance(metric, Mean) for metric in self.metrics.values())

    def __bool__(self) -> bool:
        return bool(self.metrics)

    def update(self, outputs: Any, targets: Any) -> None:
        """Add one micro-batch."""
        for name, metric in self.metrics.items():
            with _named(name):
                metric.update(outputs, targets)

    def compute(self) -> dict[str, float]:
        """Values over all samples and ranks since `reset`; torchmetrics objects reduce over the ranks themselves."""
        numbers: dict[str, float] = {}
        for name, metric in self.metrics.items():
            with _named(name):
                value = metric.compute()
            for key, number in (value if isinstance(value, dict) else {name: value}).items():
                if key in numbers:
                    raise ArgumentError(f"metric {name!r} gives {key!r}, and another metric does too")
                numbers[key] = _one_number(number, key)
        return numbers

    def reset(self) -> None:
        """Forget all samples."""
        for metric in self.metrics.values():
            metric.reset()

    def state_dict(self) -> dict[str, Any]:
        """What the metrics have gathered so far; torchmetrics leaves it out of its own state_dict."""
        return {
            name: metric_state.changed(metric_state.values_of(metric), self._initial[name])
            for name, metric in self.metrics.items()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self._lost = []
        for name, values in state.items():
            if name in self.metrics:
                metric_state.restore(self.metrics[name], {**self._initial[name], **values}, self._device)
                if values.get(metric_state.LOST):
                    self._lost.append(name)

    def load_from_ranks(self, states: list[dict[str, Any]], rank: int, world_size: int) -> None:
        """Continue from the states of another number of ranks: each goes to one rank, where they are merged."""
        mine = states[rank::world_size]
        self.load_state_dict(mine[0] if mine else {})
        for name in self.metrics:
            for state in mine[1:]:
                if name in state and not self._merge(name, state[name]):
                    self._lost.append(name)

    def _merge(self, name: str, values: Mapping[str, Any]) -> bool:
        """Whether the metric could add what another one of its kind has gathered."""
        metric = self.metrics[name]
        if not hasattr(metric, "merge_state"):  # torchmetrics has it from 1.6 on
            return False
        other = copy.copy(metric) if isinstance(metric, Mean) else copy.deepcopy(metric)
        metric_state.restore(other, {**self._initial[name], **values}, self._device)
        try:
            metric.merge_state(other)
        except (RuntimeError, ValueError, TypeError, NotImplementedError):
            return False
        return True

    def warn_of_lost(self, path: str | os.PathLike[str]) -> None:
        """Of metrics that the loaded checkpoint, taken within an epoch, could not hold."""
        if self._lost:
            names = ", ".join(f"train_{name}" for name in self._lost)
            warnings.warn(
                f"{path}: has not all of {names} up to this step, so that this epoch's value covers only the rest: "
                "a checkpoint holds the tensors and plain values among a metric's attributes. Give the metric a "
                "state_dict() of those, and load_state_dict()",
                stacklevel=4,
            )


def _members(metrics: Any) -> Iterator[tuple[str, Any]]:
    """Each metric with its name, those in a MetricCollection too."""
    for name, metric in metrics.items():
        if hasattr(metric, "compute") and hasattr(metric, "items"):
            yield from metric.items()
        else:
            yield name, metric


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise ArgumentError(f"metric {name!r} failed: {type(error).__name__}: {error}") from error


def _one_number(value: Any, name: str) -> float:
    shape = tuple(value.shape) if hasattr(value, "shape") else ()
    if math.prod(shape) != 1:
        raise ArgumentError(
            f"expected metric {name!r} to give one number, found a tensor of shape {shape}: "
            "reduce it (torchmetrics: average=...), or give each value a name (torchmetrics.ClasswiseWrapper)"
        )
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ArgumentError(f"expected metric {name!r} to give one number, found {type(value).__name__}") from None
