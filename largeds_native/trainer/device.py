"""The device of the model."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import Optimizer

from largeds_native._internal.devices import named_device
from largeds_native.errors import ArgumentError


def device_of(model: nn.Module, optimizer: Optimizer, device: torch.device | str | None) -> torch.device:
    """The device of all of the model's parameters; ArgumentError if it is not the requested one."""
    parameters = list(model.parameters())
    if not parameters:
        raise ArgumentError("the model has no parameters")
    found = {p.device for p in parameters}
    expected = next(iter(found)) if device is None else named_device(device)
    same = {d for d in found if d.type == expected.type and expected.index in (None, d.index)}
    if found != same or len(found) != 1:
        names = ", ".join(sorted(map(str, found)))
        raise ArgumentError(
            f"expected the whole model on {expected}, found it on {names}: "
            "call model.to(device) before creating the optimizer"
        )
    own = {id(p) for p in parameters}
    if not any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
        raise ArgumentError("the optimizer holds none of the model's parameters")
    return next(iter(found))
