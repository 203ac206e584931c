"""What a trainer or an accumulator is given, checked before the first step: each refusal says what to give instead."""

from __future__ import annotations

import inspect

from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from largeds_native.errors import ArgumentError


def check_can_accumulate(optimizer: Optimizer, ddp: DistributedDataParallel | None) -> None:
    """ArgumentError where a step can't be made of several backward passes."""
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ArgumentError(
            f"{type(optimizer).__name__} computes the loss again within its step, by a closure; a group's batches are "
            "gone by then: expected an optimizer that steps once from the gradients, such as SGD or AdamW"
        )
    if ddp is not None and ddp.static_graph:
        raise ArgumentError(
            "DistributedDataParallel(static_graph=True) expects every backward to be the same, and only the last one "
            "of a step talks to the other ranks: leave static_graph out"
        )
