"""What sources know of images that are arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from largeds_native._internal.arrays import MAX_CHANNELS, Array, ValueSpec
from largeds_native.errors import ArgumentError


def value_spec(where: str, dtype: np.dtype[Any], channels: int) -> ValueSpec:
    """ArgumentError for what is no number, and for too many channels. `where` begins the message."""
    if dtype.kind not in "iuf":
        raise ArgumentError(f"{where}: expected images of numbers, as uint8, uint16 or float32, found {dtype}")
    if channels > MAX_CHANNELS:
        raise ArgumentError(f"{where}: expected images of at most {MAX_CHANNELS} channels, found {channels}")
    return ValueSpec(dtype.newbyteorder("="), channels)


def numpy_of(tensor: Any) -> Array:
    """A tensor of any device; ArgumentError for a dtype that numpy has not, as bfloat16."""
    try:
        array: Array = tensor.detach().cpu().numpy()
    except TypeError:
        raise ArgumentError(f"expected a tensor of a dtype that numpy has, found {tensor.dtype}") from None
    return array
