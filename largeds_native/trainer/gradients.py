"""What is done to a step's gradients between backward and the optimizer, on the device and without waiting for it.

Note [Guard]
Where the numbers of a step are read later (readback.py), the optimizer is called before anyone knows whether the
gradients are finite. A flag on the device, 0.0 or 1.0, keeps the weights whole until then. torch's fused optimizers
take it as `found_inf`, as from a GradScaler, and change nothing where it is 1. For any other optimizer the bits of the
gradients are multiplied by 0, as integers, so that NaN becomes 0, too: one call for all gradients, while torch.where
would be a call for each. That takes Python time for each gradient, and is left out where the device was so fast that
the flag is known already: then the device waits for Python, and only then does Python's time count.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

INTEGERS = {  # of the same size
    1: torch.uint8,
    2: torch.int16,
    4: torch.int32,
    8: torch.int64,
}


def norm(gradients: list[Tensor]) -> Tensor | None:
    """The norm of the whole gradient; None if there is none."""
    if not gradients:
        return None
    whole: Tensor = torch.linalg.vector_norm(torch.stack(_norms(gradients)))
    return whole


def _norms(tensors: list[Tensor]) -> list[Tensor]:
    """That of each tensor."""
    try:
        return list(torch._foreach_norm(tensors))
    except NotImplementedError:  # one is sparse: torch 2.11 and older
        return list(torch._foreach_norm([one.coalesce().values() if one.is_sparse else one for one in tensors]))


def clip(gradients: list[Tensor], whole: float | Tensor, largest: float) -> None:
    """Scale the gradients so that their norm, `whole`, is at most `largest`. A tensor's value is not read."""
    if isinstance(whole, Tensor):
        exact = whole.double()
        multiply(gradients, torch.where(exact > largest, largest / (exact + 1e-6), 1.0))
    elif whole > largest:
        multiply(gradients, largest / (whole + 1e-6))


def multiply(gradients: list[Tensor], factor: float | Tensor) -> None:
    """All gradients by one number. A tensor gets their dtype before: with another, torch multiplies one by one."""
    if not gradients:
        return
    if not isinstance(factor, Tensor):
        torch._foreach_mul_(gradients, factor)
        return
    for dtype, same in _by_dtype(gradients).items():
        torch._foreach_mul_(same, factor.to(dtype))


def any_nonfinite(tensors: list[Tensor], one: Tensor) -> Tensor:
    """1.0 if a value in these tensors is infinite or NaN, else 0.0. `one`: that number, as float32 on their device."""
    flag = torch.zeros_like(one)
    for same in _by_dtype(tensors).values():
        flag = _or_nonfinite(flag, same, one)
    return flag


def _or_nonfinite(flag: Tensor, tensors: list[Tensor], one: Tensor) -> Tensor:
    try:
        # the check of a GradScaler, whose scale is 1 here: one call for all tensors, whatever their sizes
        torch._amp_foreach_non_finite_check_and_unscale_(tensors, flag, one)
    except (AttributeError, NotImplementedError, RuntimeError):  # a device, dtype or layout that it does not know
        norms = torch.stack(_norms(tensors))
        return torch.maximum(flag, (norms * 0).sum().ne(0).float())  # NaN differs from all numbers
    return flag


def zero_if(flag: Tensor, gradients: list[Tensor]) -> None:
    """Set the gradients to 0 where the flag is 1; see Note [Guard]."""
    for dtype, same in _by_dtype(gradients).items():
        integer = INTEGERS.get(dtype.itemsize)
        if integer is None:
            for gradient in same:
                gradient.copy_(torch.where(flag.bool(), torch.zeros_like(gradient), gradient))
        else:
            keep = torch.eq(flag, 0, out=torch.empty((), dtype=integer, device=flag.device))
            torch._foreach_mul_(_as_integers(same, integer), keep)


def _as_integers(gradients: list[Tensor], integer: torch.dtype) -> list[Tensor]:
    try:
        return [gradient.view(integer) for gradient in gradients]
    except RuntimeError:  # one is sparse
        return [(gradient._values() if gradient.is_sparse else gradient).view(integer) for gradient in gradients]


def can_skip_by_flag(optimizer: Optimizer) -> bool:
    """Whether the optimizer's next step skips itself where `found_inf` is 1, without a trace."""
    if not getattr(optimizer, "_step_supports_amp_scaling", False):
        return False
    # a fused SGD that skips its first step leaves momentum that nobody has written
    return all(group.get("fused", True) for group in optimizer.param_groups) and not _makes_momentum(optimizer)


def _makes_momentum(optimizer: Optimizer) -> bool:
    return isinstance(optimizer, SGD) and any(
        parameter.grad is not None and optimizer.state.get(parameter, {}).get("momentum_buffer") is None
        for group in optimizer.param_groups
        if group["momentum"]
        for parameter in group["params"]
    )


def step_unless(flag: Tensor, optimizer: Any) -> None:
    """A step of an optimizer that `can_skip_by_flag`."""
    optimizer.grad_scale, optimizer.found_inf = None, flag
    try:
        optimizer.step()
    finally:
        del optimizer.grad_scale, optimizer.found_inf


def all_of(optimizer: Optimizer) -> list[nn.Parameter]:
    """The optimizer's parameters, those of `add_param_group` too."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _by_dtype(gradients: list[Tensor]) -> dict[torch.dtype, list[Tensor]]:
    dtypes = {gradient.dtype for gradient in gradients}
    if len(dtypes) == 1:  # nearly always
        return {dtypes.pop(): gradients}
    return {dtype: [gradient for gradient in gradients if gradient.dtype == dtype] for dtype in dtypes}
