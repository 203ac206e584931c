"""The device of the model: checks before a step, and words for one that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from largeds_native._internal.devices import named_device
from largeds_native.errors import ArgumentError, DeviceError
from largeds_native.trainer.gradients import all_of
from largeds_native.trainer.memory import is_out_of_memory

_SIGNS = ("CUDA error:", "cuDNN error:", "CUDNN_STATUS_", "CUBLAS_STATUS_", "NCCL error")
MOVE = "call model.to(device) before creating the optimizer"


def device_of(model: nn.Module, optimizer: Optimizer, device: torch.device | str | None) -> torch.device:
    """The device of all of the model's parameters; ArgumentError if it is not the requested one, or if the model's
    buffers, or the optimizer's parameters or its state, are on another."""
    parameters = list(model.parameters())
    if not parameters:
        raise ArgumentError("the model has no parameters")
    found = {p.device for p in parameters}
    expected = next(iter(found)) if device is None else named_device(device)
    same = {d for d in found if d.type == expected.type and expected.index in (None, d.index)}
    if found != same or len(found) != 1:
        raise ArgumentError(f"expected the whole model on {expected}, found it on {_names(found)}: {MOVE}")
    place = next(iter(found))
    buffers = {buffer.device for buffer in model.buffers()} - {place}
    if buffers:
        raise ArgumentError(
            f"the model's parameters are on {place}, and buffers of it, such as BatchNorm's statistics, on "
            f"{_names(buffers)}: {MOVE}"
        )
    _check_optimizer({id(p) for p in parameters}, optimizer, place)
    return place


def _check_optimizer(own: set[int], optimizer: Optimizer, place: torch.device) -> None:
    held = all_of(optimizer)
    others = {p.device for p in held} - {place}
    if others:
        raise ArgumentError(
            f"the model is on {place}, and parameters of the optimizer on {_names(others)}: the model was moved after "
            f"the optimizer was made. Make the optimizer again; {MOVE}"
        )
    if not any(id(p) in own for p in held):
        raise ArgumentError(
            "the optimizer holds none of the model's parameters: it was made for another model, or before this one's "
            "parameters were replaced. Make the optimizer of model.parameters()"
        )
    kept = (value for p in held for value in optimizer.state.get(p, {}).values() if _is_like(value, p))
    others = {value.device for value in kept} - {place}
    if others:
        raise ArgumentError(
            f"the model is on {place}, and the optimizer's state, such as its momentum, on {_names(others)}: the model "
            "was moved after steps of the optimizer. Make the optimizer again, and give its state_dict() to the new one"
        )


def _is_like(value: object, parameter: Tensor) -> bool:
    """Whether this is one number for each of the parameter's; a count of steps may be anywhere."""
    return isinstance(value, Tensor) and value.ndim > 0 and value.shape == parameter.shape


def _names(devices: Iterable[torch.device]) -> str:
    return ", ".join(sorted(map(str, devices)))


@contextmanager
def explained(place: torch.device, where: Callable[[], str], advice: str) -> Iterator[None]:
    """Errors of the device inside: a failure becomes a DeviceError, and a lack of memory says `advice`, if there is
    any. `where` says how far the run was."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        if not advice:
            raise
        raise torch.OutOfMemoryError(f"{place} has too little memory {where()}: {advice}. {error}") from error
    except RuntimeError as error:
        if isinstance(error, DeviceError) or is_out_of_memory(error) or not _is_of_device(error):
            raise
        words = str(error).strip().splitlines()[0]
        raise DeviceError(
            f"{place} failed {where()}, or in the step before, since a device reports its errors late: {words}. This "
            "process can't use it any more: start again, and the run goes on from its last checkpoint. With "
            "CUDA_LAUNCH_BLOCKING=1 in the environment, the traceback shows the call that failed"
        ) from error


def _is_of_device(error: RuntimeError) -> bool:
    kind = getattr(torch, "AcceleratorError", None)  # torch 2.8
    return (kind is not None and isinstance(error, kind)) or any(sign in str(error) for sign in _SIGNS)
