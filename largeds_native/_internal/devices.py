"""torch's devices by name."""

from __future__ import annotations

from typing import Any

import torch

from largeds_native.errors import ArgumentError


def named_device(device: Any) -> torch.device:
    """As torch.device(device); ArgumentError for what torch does not know."""
    try:
        return torch.device(device)
    except (RuntimeError, TypeError):
        raise ArgumentError(f"device: expected 'cpu', 'cuda' or 'cuda:0', found {device!r}") from None
