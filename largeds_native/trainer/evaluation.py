"""The loss and the metrics over a loader, without a gradient."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch

from largeds_native.errors import ArgumentError
from largeds_native.trainer import batches
from largeds_native.trainer.ranks import unwrap, without_ddp
from largeds_native.trainer.weights import check_one_number

if TYPE_CHECKING:
    from largeds_native.trainer.trainer import Trainer


def evaluate(trainer: Trainer, loader: Iterable[Any]) -> dict[str, float]:
    """`Trainer.evaluate`: in eval mode, micro-batch by micro-batch; each module's mode is put back."""
    weigh, reduction = trainer.accumulator.weigh, trainer.accumulator.reduction
    model, forward, was_training = unwrap(trainer.model), without_ddp(trainer.model), trainer.model.training
    loss_sum = torch.zeros((), dtype=torch.float64, device=trainer.device)
    weight_sum: Any = 0.0
    trainer.metrics.reset()
    trainer.call("on_evaluate_start")
    modes = {module: module.training for module in model.modules()}  # a frozen layer stays in its mode
    model.eval()
    try:
        with torch.no_grad():
            for batch in loader:
                pair = batches.split_pair(batch)
                count = batches.length(pair)
                size = trainer.accumulator.micro_batch or count
                for first in range(0, count, size):
                    part = batches.narrow(pair, first, min(size, count - first))
                    weight = weigh(*part)
                    inputs, targets = batches.to_device(part, trainer.device)
                    with trainer.precision.autocast():
                        outputs = forward(inputs)
                        loss = trainer.loss(outputs, targets)
                    check_one_number(loss)
                    # a mean over nothing is 0 / 0, and weighs nothing
                    if reduction == "mean":
                        loss = torch.where(torch.as_tensor(weight != 0, device=loss.device), loss * weight, 0)
                    loss_sum += loss.reshape(())
                    weight_sum = weight_sum + weight
                    trainer.metrics.update(outputs, targets)
    finally:
        trainer.model.training = was_training
        for module, mode in modes.items():
            module.training = mode
        trainer.call("on_evaluate_end")
    loss_total, weight_total = trainer.ranks.sum(float(loss_sum), float(weight_sum))
    if weight_total == 0:
        raise ArgumentError("the loader to evaluate on is empty")
    return {"loss": loss_total / weight_total, **trainer.metrics.compute()}
