"""The random state of the process: torch's on the CPU and on each GPU in use, Python's and numpy's."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass
class RandomState:
    """The states of all generators that models and transforms commonly draw from."""

    torch_cpu: Tensor
    torch_cuda: list[Tensor]
    python: Any
    numpy: Any

    @classmethod
    def now(cls) -> RandomState:
        """The current state. CUDA is not initialised for it."""
        used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        cuda = torch.cuda.get_rng_state_all() if used else []
        return cls(torch.get_rng_state(), cuda, random.getstate(), np.random.get_state(legacy=False))  # noqa: NPY002

    def restore(self) -> None:
        """Set the generators of the process to this state."""
        torch.set_rng_state(self.torch_cpu)
        if self.torch_cuda and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(self.torch_cuda[: torch.cuda.device_count()])
        random.setstate(self.python)
        np.random.set_state(self.numpy)  # noqa: NPY002

    def another(self, number: int) -> RandomState:
        """A state that depends on this one and on the number, for a process that has none of its own."""
        before = RandomState.now()
        self.restore()
        seed = (int(torch.randint(1 << 62, (1,))) + number) % (1 << 62)
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % (1 << 32))  # noqa: NPY002
        found = RandomState.now()
        before.restore()
        return found

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain numbers only, for `torch.load(weights_only=True)`."""
        version, internal_state, gauss = self.python
        inner = self.numpy["state"]
        return {
            "torch_cpu": self.torch_cpu,
            "torch_cuda": self.torch_cuda,
            "python": [version, torch.tensor(internal_state, dtype=torch.int64), gauss],
            "numpy": {
                "key": torch.from_numpy(inner["key"].astype(np.int64)),
                "pos": int(inner["pos"]),
                "has_gauss": int(self.numpy["has_gauss"]),
                "gauss": float(self.numpy["gauss"]),
            },
        }

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> RandomState:
        """The inverse of `state_dict`."""
        version, internal_state, gauss = state["python"]
        numpy = state["numpy"]
        return cls(
            state["torch_cpu"],
            list(state["torch_cuda"]),
            (version, tuple(internal_state.tolist()), gauss),
            {
                "bit_generator": "MT19937",
                "state": {"key": numpy["key"].numpy().astype(np.uint32), "pos": numpy["pos"]},
                "has_gauss": numpy["has_gauss"],
                "gauss": numpy["gauss"],
            },
        )


# attributes in which loaders, samplers, datasets and transforms keep the parts they are made of
_PARTS = (
    "dataset",
    "datasets",
    "sampler",
    "batch_sampler",
    "transform",
    "transforms",
    "target_transform",
    "collate_fn",
)


class OwnGenerators:
    """The states of the generators that a loader, and what it is made of, keep as attributes of their own: torch's,
    numpy's and Python's. Those of a DataLoader's workers are copies, which no iteration changes here."""

    def __init__(self, loader: Any) -> None:
        self._setters = [(set_state, get_state()) for get_state, set_state in _own_generators(loader)]

    def restore(self) -> None:
        for set_state, state in self._setters:
            set_state(state)


def _own_generators(loader: Any) -> Iterator[tuple[Callable[[], Any], Callable[[Any], Any]]]:
    """How to get and how to set the state of each generator."""
    pending, seen = [loader], set()
    while pending:
        part = pending.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, (list, tuple)):  # a ConcatDataset's datasets, a Compose's transforms
            pending += [item for item in part if hasattr(item, "__dict__")]
            continue
        attributes = getattr(part, "__dict__", {})
        for value in attributes.values():
            if isinstance(value, (torch.Generator, np.random.RandomState)):
                yield value.get_state, value.set_state
            elif isinstance(value, np.random.Generator):
                bits = value.bit_generator
                yield partial(getattr, bits, "state"), partial(setattr, bits, "state")
            elif isinstance(value, random.Random):
                yield value.getstate, value.setstate
        pending += [attributes[name] for name in _PARTS if name in attributes]
