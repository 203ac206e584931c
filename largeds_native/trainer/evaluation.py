"""Evaluation: the loss and the metrics over a loader, without gradients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from largeds_native.errors import ArgumentError
from largeds_native.trainer import batches
from largeds_native.trainer.accumulation import Accumulator
from largeds_native.trainer.metrics import Metrics
from largeds_native.trainer.precision import Precision
from largeds_native.trainer.ranks import unwrap, without_ddp
from largeds_native.trainer.weights import Loss, check_scalar_loss


def evaluate(
    loader: Iterable[Any], accumulator: Accumulator, loss_function: Loss, precision: Precision, metrics: Metrics
) -> dict[str, float]:
    """Runs the accumulator's model in eval mode, micro-batch by micro-batch, then restores each module's mode."""
    weigh, reduction, device = accumulator.weigh, accumulator.reduction, accumulator.device
    model, forward = unwrap(accumulator.model), without_ddp(accumulator.model)
    was_training = accumulator.model.training
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    weight_sum: Any = 0.0
    metrics.reset()
    modes = {module: module.training for module in model.modules()}  # frozen layers may be in eval mode during training
    model.eval()
    try:
        with torch.no_grad():
            for batch in loader:
                pair = batches.split_pair(batch)
                count = batches.length(pair)
                size = accumulator.micro_batch or count
                for first in range(0, count, size):
                    part = batches.narrow(pair, first, min(size, count - first))
                    weight = weigh(*part)
                    inputs, targets = batches.to_device(part, device)
                    with precision.autocast():
                        outputs = forward(inputs)
                        loss = loss_function(outputs, targets)
                    check_scalar_loss(loss)
                    # the loss of a micro-batch of weight 0 is 0 / 0, and doesn't count
                    if reduction == "mean":
                        loss = torch.where(torch.as_tensor(weight != 0, device=loss.device), loss * weight, 0)
                    loss_sum += loss.reshape(())
                    weight_sum = weight_sum + weight
                    metrics.update(outputs, targets)
    finally:
        accumulator.model.training = was_training
        for module, mode in modes.items():
            module.training = mode
    loss_total, weight_total = accumulator.ranks.sum(float(loss_sum), float(weight_sum))
    if weight_total == 0:
        raise ArgumentError("the loader to evaluate on is empty")
    return {"loss": loss_total / weight_total, **metrics.compute()}
