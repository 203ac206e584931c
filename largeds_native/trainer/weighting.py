"""How much each micro-batch counts in the gradient of its step.

Note [Weights]
The gradient of a step is sum_i w_i grad l_i / sum_i w_i over all samples of the group and all ranks. The sum of weights
is known only after the group's last batch (its size may differ, the data may end, ranks may have different counts).
Holding the group's batches until then would cost memory, so each micro-batch is scaled by w / nominal, where `nominal`
is the weight of a full group on one rank, and before the step the gradients are multiplied once by nominal / total. In
a full group that factor is 1, and the pass over the gradients is skipped. Dividing by the nominal weight immediately,
not only at the end, keeps the gradients in the range of those of the full batch, which float16 needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from largeds_native.errors import ArgumentError
from largeds_native.trainer import batches, readback
from largeds_native.trainer.members import no_label_is
from largeds_native.trainer.weights import ClassWeight, Counted, Weight

REDUCTIONS = ("mean", "sum")


class Weighting:
    """The weights of micro-batches, and the gradient at which each backward begins. See Note [Weights].

    Attributes:
        nominal: weight of a full group on one rank; None until the first group.
    """

    def __init__(self, reduction: str, weight: Weight | None, scaler: torch.amp.GradScaler | None) -> None:
        if reduction not in REDUCTIONS:
            raise ArgumentError(f"expected reduction 'mean' or 'sum', found {reduction!r}")
        self.reduction, self.scaler = reduction, scaler
        self.weight = Counted() if weight is None and reduction == "mean" else weight
        self.nominal: float | None = None
        self._gradient: tuple[Any, Tensor] = (None, torch.empty(0))

    @property
    def divides(self) -> bool:
        """Whether the step's gradient is divided by the total weight, which is False for a plain sum."""
        return self.reduction == "mean" or self.weight is not None

    @contextmanager
    def of_loader(self, loader: Any) -> Iterator[None]:
        """The samples weighed within are those of this loader, whose labels may be looked through before."""
        weight = self.weight
        if not isinstance(weight, ClassWeight):
            yield
            return
        before, weight.none_ignored = weight.none_ignored, no_label_is(weight.ignored, loader)
        try:
            yield
        finally:
            weight.none_ignored = before

    def weigh(self, inputs: Any, targets: Any) -> float | Tensor:
        """The weight of these samples."""
        if self.weight is None:
            return float(batches.length((inputs, targets)))
        weight = self.weight(inputs, targets)
        # on a GPU it stays a tensor: reading its value would synchronise with the GPU at every micro-batch
        if isinstance(weight, Tensor) and (readback.defers(weight.device) or weight.device.type != "cpu"):
            return weight.detach() if weight.dtype == torch.float64 else weight.detach().double()
        return float(weight)

    def look_at(self, loss: Tensor) -> None:
        """Before a micro-batch's backward: where nobody has said what the loss divides by, it may show it itself."""
        if isinstance(self.weight, Counted):
            self.weight.look_at(loss)

    def gradient_of(self, loss: Tensor, weight: float | Tensor) -> Tensor:
        """The gradient passed to `loss.backward()`: the micro-batch's weight / the nominal one."""
        nominal = self.nominal or 1.0
        if isinstance(weight, Tensor) and self.reduction == "mean":
            # a batch may come from another device; divided as float64, and rounded by the same call
            weight = weight.to(loss.device, non_blocking=True)
            rounded = torch.empty(weight.shape, dtype=loss.dtype, device=weight.device)
            gradient = torch.div(weight, nominal, out=rounded).reshape(loss.shape)
        else:
            factor = (float(weight) if self.reduction == "mean" else 1.0) / nominal
            key = (factor, loss.dtype, loss.device, loss.shape)
            if self._gradient[0] != key:  # the same number for most micro-batches
                self._gradient = (key, torch.full_like(loss, factor, requires_grad=False))
            gradient = self._gradient[1]
        return self.scaled(gradient)

    def scaled(self, gradient: Tensor) -> Tensor:
        """Multiplied by the scale of a GradScaler."""
        return gradient if self.scaler is None else self.scaler.scale(gradient)

    def mean_loss(self, losses: list[float], weights: list[float]) -> tuple[float, float]:
        """A step's loss and weight; the loss is NaN where no sample weighs anything."""
        total = sum(weights)
        by_weight = self.reduction == "mean"
        mean = sum(v * (w if by_weight else 1.0) for v, w in zip(losses, weights, strict=True) if w or not by_weight)
        return mean / total if total else float("nan"), total
