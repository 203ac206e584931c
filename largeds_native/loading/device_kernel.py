"""A kernel of Triton's where there is one, and torch's operators where there is none."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch

LAUNCHES = "largeds_native.loading.triton_kernels"  # imported only for a CUDA device: there may be no Triton


class DeviceKernel:
    """A launch function of triton_kernels.py. It is compiled at its first call, for some hundred milliseconds. If that
    fails, or Triton is missing, or `device` is no CUDA device, it is not tried again."""

    def __init__(self, launch: str, device: torch.device) -> None:
        self._to_try = launch if device.type == "cuda" else None
        self._launch: Callable[..., None] | None = None  # once it has worked

    @property
    def name(self) -> str:
        """What does the work."""
        return "torch" if self._launch is None else "triton"

    def __call__(self, *arguments: Any) -> bool:
        """Whether it was launched; otherwise torch has to do the work."""
        if self._launch is None and self._to_try is not None:
            name, self._to_try = self._to_try, None
            try:
                launch: Callable[..., None] = getattr(importlib.import_module(LAUNCHES), name)
                launch(*arguments)
            except Exception:  # no Triton, no C compiler, a home that can't be written to, another Triton
                return False
            self._launch = launch
        elif self._launch is not None:
            self._launch(*arguments)
        return self._launch is not None
