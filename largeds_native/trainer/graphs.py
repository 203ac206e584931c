"""CUDA graphs, as `torch.compile(mode="reduce-overhead")` and `torch.cuda.make_graphed_callables` make them: each run
overwrites the outputs of the last.

Note [Gradients of a graph]
Gradients are outputs of the backward's graph, and autograd takes a parameter's first gradient as it is, without a copy.
So the next micro-batch's run would write over the sum so far (pytorch issue 169545): before it begins, the gradients
get memory of their own.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

_TREES = "torch._inductor.cudagraph_trees"


_GRAPHED: weakref.WeakSet[nn.Module] = weakref.WeakSet()


def look_at(model: nn.Module) -> None:
    """Notices what `torch.cuda.make_graphed_callables` made of the model or its parts: it gives them a forward."""
    forwards = (vars(module).get("forward") for module in model.modules())
    if any("make_graphed_callables" in getattr(forward, "__qualname__", "") for forward in forwards):
        _GRAPHED.add(model)


def in_use() -> bool:
    """Whether there are CUDA graphs in this process: outputs that are kept must be copies."""
    return _TREES in sys.modules or bool(_GRAPHED)


class OwnGradients:
    """Of one group: keeps its gradients from being overwritten by a later run. See Note [Gradients of a graph]."""

    def __init__(self) -> None:
        self._own: dict[int, Any] = {}

    @torch.no_grad()
    def keep(self, parameters: Iterable[nn.Parameter]) -> None:
        """Before another micro-batch, where graphs are in use: copy what was not copied before. What follows is added
        to the copies."""
        for parameter in parameters:
            if parameter.grad is not None and self._own.get(id(parameter)) is not parameter.grad:
                parameter.grad = parameter.grad.clone()
                self._own[id(parameter)] = parameter.grad


def begin() -> None:
    """A new micro-batch begins: outputs of the one before may be overwritten."""
    if _TREES in sys.modules:  # else the import alone would take a second
        mark: Any = torch.compiler.cudagraph_mark_step_begin
        mark()
