"""What a trainer or an accumulator is given, checked before the first step: each refusal says what to give instead."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Collection, Iterable

from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from largeds_native.errors import ArgumentError
from largeds_native.trainer.callbacks import Callback


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


def check_monitored(who: str, name: str, names: Collection[str]) -> None:
    """ArgumentError unless the number that `who` watches is among an epoch's numbers."""
    if name in names:
        return
    near = difflib.get_close_matches(name, names, 1)
    if name.startswith("val_") and not any(known.startswith("val_") for known in names):
        advice = ": numbers of a validation need fit(..., val_loader=...)"
    else:
        advice = f": did you mean {near[0]!r}?" if near else ""
    raise ArgumentError(f"{who}: no {name!r} among {sorted(names)}{advice}")


def may_add_numbers(callbacks: Iterable[Callback]) -> bool:
    """Whether a callback of the user's may add numbers to an epoch's, of which nobody knows before its end."""
    package = __name__.partition(".")[0]
    return any(type(callback).on_epoch_end.__module__.partition(".")[0] != package for callback in callbacks)
