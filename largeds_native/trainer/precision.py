"""The number formats of a step: float32, or autocast to bfloat16 or float16 (with a GradScaler)."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from largeds_native.errors import ArgumentError


class Precision:
    """ "fp32", "bf16" or "fp16". float16 has a narrow range, so a GradScaler scales its losses."""

    def __init__(self, name: str, device: torch.device) -> None:
        types = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
        if name not in types:
            raise ArgumentError(f"expected precision 'fp32', 'bf16' or 'fp16', found {name!r}")
        self.dtype, self.device_type = types[name], device.type
        self.scaler = torch.amp.GradScaler(device.type) if name == "fp16" else None

    def autocast(self) -> AbstractContextManager[Any]:
        """The context manager for forward and loss; backward runs outside of it."""
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(self.device_type, dtype=self.dtype)
