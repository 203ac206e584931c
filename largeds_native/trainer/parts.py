"""Tensors of which each rank has a part, in a state of plain values and tensors: where they lie here, and where they
were saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from largeds_native.trainer.sharding import is_dtensor

Path = tuple[Any, ...]  # the keys and indices that lead to a value of a state
Change = Callable[[Path, Any], Any]


@dataclass(frozen=True)
class SavedTensor:
    """A tensor whose parts are in the files of a sharded checkpoint."""

    name: str  # there
    shape: torch.Size
    dtype: torch.dtype


def change(value: Any, replace: Change, path: Path = ()) -> Any:
    """A copy of the state in which `replace(path, value)` stands for each value that is no dict, list or tuple."""
    if isinstance(value, dict):
        return {key: change(item, replace, (*path, key)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [change(item, replace, (*path, i)) for i, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    return replace(path, value)


def values(value: Any) -> Iterator[Any]:
    """All that are no dict, list or tuple."""
    if isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from values(item)
    else:
        yield value


def has_parts(state: Any) -> bool:
    """Whether a rank has only a part of some tensor of the state."""
    return any(is_dtensor(value) for value in values(state))


class Placement:
    """Where the tensors of a run's state lie: a tensor with the name and the shape of a parameter, or an optimizer's
    state of its shape, lies as that parameter does; all others are whole on each rank."""

    def __init__(self, model: nn.Module, optimizer: Any) -> None:
        own = model.state_dict()
        self._by_name = {name: value.detach() for name, value in own.items() if is_dtensor(value)}
        self._by_number = [p for group in optimizer.param_groups for p in group["params"]]

    def of(self, path: Path, shape: torch.Size) -> Any:
        """The DTensor as which a tensor lies here, or None."""
        found: Any = self._by_name.get(path[-1]) if path and isinstance(path[-1], str) else None
        if path[:2] == ("optimizer", "state") and len(path) > 2 and path[2] in range(len(self._by_number)):
            found = self._by_number[path[2]].detach()
        return found if found is not None and is_dtensor(found) and found.shape == shape else None

    def here(self, path: Path, value: Any) -> Any:
        """A whole tensor as it lies here; anything else unchanged."""
        if not isinstance(value, Tensor) or is_dtensor(value):
            return value
        there = self.of(path, value.shape)
        return value if there is None else part_of(value, there)

    def empty(self, path: Path, saved: SavedTensor) -> Tensor:
        """Memory for a saved tensor, or for this rank's part of it."""
        there = self.of(path, saved.shape)
        if there is None:
            return torch.empty(saved.shape, dtype=saved.dtype)
        return torch.empty_like(there, dtype=saved.dtype)


def part_of(whole: Tensor, like: Any) -> Tensor:
    """This rank's part of a tensor that all ranks have, placed as `like`."""
    from torch.distributed.tensor import distribute_tensor

    on_device = whole.to(like.device_mesh.device_type)
    placed: Tensor = distribute_tensor(on_device, like.device_mesh, like.placements)
    return placed.to(like.device)
