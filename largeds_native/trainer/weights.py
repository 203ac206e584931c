"""The weight of a micro-batch: the denominator of its mean loss."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from largeds_native.errors import ArgumentError

Loss = Callable[[Any, Any], Tensor]
Weight = Callable[[Any, Any], "float | Tensor"]


def reduction_of(loss: Loss) -> str:
    """ "mean" or "sum": the loss's own `reduction`, else "mean", the default of every loss in torch."""
    given = loss.keywords.get("reduction") if isinstance(loss, functools.partial) else getattr(loss, "reduction", None)
    reduction = {None: "mean", "batchmean": "mean"}.get(given, given)  # KLDivLoss's batchmean is a mean over samples
    if reduction not in ("mean", "sum"):
        raise ArgumentError(f"expected a loss with reduction 'mean' or 'sum', found {reduction!r}")
    return str(reduction)


def weight_of(loss: Loss) -> Weight | None:
    """The denominator of a loss of torch, if it isn't the number of samples.

    CrossEntropyLoss and NLLLoss with class-index targets divide by the sum of the class weights of all targets that
    are not `ignore_index`. None: the loss is a mean over samples.
    """
    if isinstance(loss, (nn.CrossEntropyLoss, nn.NLLLoss)) and loss.reduction == "mean":
        return functools.partial(_class_weight, loss.weight, loss.ignore_index)
    return None


def _class_weight(class_weight: Tensor | None, ignore_index: int, inputs: Any, targets: Any) -> float | Tensor:
    if not isinstance(targets, Tensor) or targets.is_floating_point():  # class probabilities: a mean over samples
        return float(targets.shape[0] if isinstance(targets, Tensor) else len(targets))
    if (
        class_weight is None and targets.device.type == "cpu"
    ):  # it runs for each micro-batch, and numpy's calls are cheaper
        return float(np.count_nonzero(targets.numpy() != ignore_index))
    counted = targets != ignore_index
    if class_weight is None:
        return counted.sum()
    safe = torch.where(counted, targets, torch.zeros_like(targets))
    return (class_weight.to(targets.device, torch.float64)[safe] * counted).sum()


def check_scalar_loss(loss: Any) -> None:
    """Raises ArgumentError unless `loss` is a tensor of one element, as `backward` needs it."""
    if not isinstance(loss, Tensor):
        raise ArgumentError(f"expected the loss to be a tensor of one element, found {type(loss).__name__}")
    if loss.numel() != 1:
        raise ArgumentError(f"expected the loss to be a tensor of one element, found shape {tuple(loss.shape)}")
