"""Metrics of an epoch: torchmetrics objects, or functions whose values are averaged over the samples."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from largeds_native.errors import ArgumentError
from largeds_native.trainer import batches
from largeds_native.trainer.ranks import Ranks


class Mean:
    """The mean of `function(outputs, targets)` over all samples; the function returns the mean of a micro-batch."""

    def __init__(self, function: Any, ranks: Ranks) -> None:
        self._function, self._ranks = function, ranks
        self._total: float | Tensor = 0.0
        self._count = 0

    def update(self, outputs: Any, targets: Any) -> None:
        value, count = self._function(outputs, targets), batches.length(targets)
        self._total = self._total + (value.detach().double() if isinstance(value, Tensor) else value) * count
        self._count += count

    def compute(self) -> float:
        total, count = self._ranks.sum(float(self._total), float(self._count))
        return total / count if count else float("nan")

    def reset(self) -> None:
        self._total, self._count = 0.0, 0


class Metrics:
    """A set of named metrics; each set has its own state, so training and validation don't mix."""

    def __init__(self, metrics: Mapping[str, Any] | None, ranks: Ranks, device: Any) -> None:
        self.metrics: dict[str, Any] = {}
        self._device = device
        for name, metric in (metrics or {}).items():
            if hasattr(metric, "update") and hasattr(metric, "compute"):
                metric = copy.deepcopy(metric)
                self.metrics[name] = metric.to(device) if hasattr(metric, "to") else metric
            elif callable(metric):
                self.metrics[name] = Mean(metric, ranks)
            else:
                raise ArgumentError(f"expected metric {name!r} to be a torchmetrics object or a function")

    def __bool__(self) -> bool:
        return bool(self.metrics)

    def update(self, outputs: Any, targets: Any) -> None:
        """Add one micro-batch."""
        for metric in self.metrics.values():
            metric.update(outputs, targets)

    def compute(self) -> dict[str, float]:
        """Values over all samples and ranks since `reset`; torchmetrics objects reduce over the ranks themselves."""
        return {name: float(metric.compute()) for name, metric in self.metrics.items()}

    def reset(self) -> None:
        """Forget all samples."""
        for metric in self.metrics.values():
            metric.reset()

    def state_dict(self) -> dict[str, Any]:
        """The sums so far, which torchmetrics leaves out of its own state_dict."""
        return {name: _state(metric) for name, metric in self.metrics.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        for name, values in state.items():
            if name in self.metrics:
                for attribute, value in values.items():
                    setattr(self.metrics[name], attribute, batches.to_device(value, self._device))


def _state(metric: Any) -> dict[str, Any]:
    if isinstance(metric, Mean):
        return {"_total": metric._total, "_count": metric._count}
    names = [*getattr(metric, "_defaults", {}), "_update_count"]
    return {name: copy.deepcopy(getattr(metric, name)) for name in names if hasattr(metric, name)}
