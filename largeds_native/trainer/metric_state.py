"""What a metric has gathered so far, as tensors and plain values, for any object with `update` and `compute`.

It is what differs from the metric as it was before its first sample: numbers that are only settings are not saved, so
that a resumed run has those it was given. Metrics inside a metric (torchmetrics' wrappers, sums of metrics) are saved
with it, by the path of their name.
"""

from __future__ import annotations

import enum
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from largeds_native.errors import StateError
from largeds_native.trainer import batches

LOST = "<lost>"  # the key for the names of what can't be saved
OWN = "<state_dict>"  # the key for the state that an object makes itself
_PLAIN = (type(None), bool, int, float, complex, str, bytes)
# nothing is gathered in these
_STATIC: tuple[Any, ...] = (Callable, type, enum.Enum, torch.device, torch.dtype, inspect.Signature)
_MODULE = frozenset(vars(nn.Module()))


def values_of(metric: Any) -> dict[str, Any]:
    """Copies of all tensors and plain values in the metric, by their path; under LOST, the paths of what is neither."""
    values: dict[str, Any] = {LOST: []}
    _gather(metric, "", values, set())
    return values


def _gather(part: Any, path: str, values: dict[str, Any], seen: set[int]) -> None:
    seen.add(id(part))
    own = _own_state(part)
    if own is not None:
        values[path + OWN] = own
        return
    if not hasattr(part, "__dict__"):
        values[LOST].append(path + type(part).__name__)
    for name, value in _attributes(part):
        if isinstance(value, nn.Module) or _is_metric(value):
            if id(value) not in seen:
                _gather(value, f"{path}{name}.", values, seen)
            continue
        try:
            values[path + name] = _copied(value)
        except TypeError:
            if _may_be_gathered(part, name, value):
                values[LOST].append(path + name)


def _is_metric(value: Any) -> bool:
    return hasattr(value, "update") and hasattr(value, "compute") and not isinstance(value, type)


def _may_be_gathered(part: Any, name: str, value: Any) -> bool:
    """Whether it may change with the samples. torchmetrics names its states."""
    states = getattr(part, "_defaults", None)
    if isinstance(states, dict):
        return name in states
    return _is_metric(part) and not isinstance(value, _STATIC) and not inspect.ismodule(value)


def changed(values: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are not those of before, and LOST."""
    absent = object()
    return {path: value for path, value in values.items() if path == LOST or not _same(value, before.get(path, absent))}


def restore(metric: Any, values: Mapping[str, Any], device: Any) -> None:
    """Give a metric values of `values_of`. Raises StateError for a metric that has not the parts."""
    before, absent = values_of(metric), object()
    for path, kept in values.items():
        value = batches.to_device(_copied(kept), device)
        if path == LOST or _same(value, before.get(path, absent)):
            continue
        owner, _, name = path.rpartition(".")
        try:
            part = functools.reduce(getattr, owner.split(".") if owner else [], metric)
        except AttributeError:
            raise StateError(
                f"the checkpoint is of another {type(metric).__name__}: expected {owner!r} in it, found none. Give the "
                "metric with which the run began"
            ) from None
        if name == OWN:
            part.load_state_dict(value)
        else:
            setattr(part, name, _as(getattr(part, name, None), value))


def _attributes(part: Any) -> Iterator[tuple[str, Any]]:
    """Its own, without what every Module has."""
    own = getattr(part, "__dict__", {})
    if not isinstance(part, nn.Module):
        yield from own.items()
        return
    yield from ((name, value) for name, value in own.items() if name not in _MODULE)
    yield from part._buffers.items()
    yield from part._modules.items()


def _own_state(part: Any) -> Any:
    """A copy of the state that an object makes itself, if that is of tensors and plain values; else None."""
    if isinstance(part, nn.Module) or not (hasattr(part, "state_dict") and hasattr(part, "load_state_dict")):
        return None
    try:
        return _copied(part.state_dict())
    except TypeError:
        return None


def _copied(value: Any) -> Any:
    """A copy of tensors and plain values; TypeError for anything else."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, np.ndarray) and value.dtype.kind in "bif":
        return torch.from_numpy(value.copy())
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in _PLAIN:
        return value
    if isinstance(value, dict):
        return {_copied(key): _copied(item) for key, item in value.items()}
    if type(value) in (list, tuple, set):
        return type(value)(_copied(item) for item in value)
    raise TypeError(type(value).__name__)


def _as(current: Any, value: Any) -> Any:
    """The value in the type that the metric had for it."""
    if isinstance(current, np.ndarray) and isinstance(value, Tensor):
        return value.cpu().numpy()
    if isinstance(current, dict) and isinstance(value, dict) and type(current) is not dict:  # a Counter, a defaultdict
        current.clear()
        current.update(value)
        return current
    return value


def _same(value: Any, other: Any) -> bool:
    if type(value) is not type(other):
        return False
    if isinstance(value, Tensor):
        return (value.dtype, value.device) == (other.dtype, other.device) and torch.equal(value, other)
    if isinstance(value, dict):
        return value.keys() == other.keys() and all(_same(item, other[key]) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return len(value) == len(other) and all(map(_same, value, other))
    return bool(value == other)
