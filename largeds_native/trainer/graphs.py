"""CUDA graphs, as `torch.compile(mode="reduce-overhead")` makes them: each run overwrites the outputs of the last."""

from __future__ import annotations

import sys
from typing import Any

import torch

_TREES = "torch._inductor.cudagraph_trees"


def in_use() -> bool:
    """Whether something was compiled to CUDA graphs in this process: outputs that are kept must be copies."""
    return _TREES in sys.modules


def begin() -> None:
    """A new micro-batch begins: outputs of the one before may be overwritten."""
    if _TREES in sys.modules:  # else the import alone would take a second
        mark: Any = torch.compiler.cudagraph_mark_step_begin
        mark()
