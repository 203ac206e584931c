"""What sources know of images that are arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from largeds_native._internal.arrays import MAX_CHANNELS, ValueSpec
from largeds_native.errors import ArgumentError


def value_spec(where: str, dtype: np.dtype[Any], channels: int) -> ValueSpec:
    """ArgumentError for what is no number, and for too many channels. `where` begins the message."""
    if dtype.kind not in "iuf":
        raise ArgumentError(f"{where}: expected images of numbers, as uint8, uint16 or float32, found {dtype}")
    if channels > MAX_CHANNELS:
        raise ArgumentError(f"{where}: expected images of at most {MAX_CHANNELS} channels, found {channels}")
    return ValueSpec(dtype.newbyteorder("="), channels)
