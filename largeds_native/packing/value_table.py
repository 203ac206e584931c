"""The table by which the uint8 values of pixels become floats."""

from __future__ import annotations

import numpy as np

from largeds_native._internal.arrays import Array
from largeds_native.packing.options import PackOptions


def value_table(options: PackOptions) -> bytes:
    """256 values per channel: (x / 255 - mean) / std, as by torchvision's ToTensor and Normalize, computed in double
    precision and rounded once. Empty for uint8."""
    if options.dtype == "uint8":
        return b""
    values = np.arange(256, dtype=np.float64) / 255
    mean = np.asarray(options.mean or (0.0,) * options.channels)[:, None]
    std = np.asarray(options.std or (1.0,) * options.channels)[:, None]
    table: Array = ((values - mean) / std).astype(np.dtype(options.dtype))
    return table.tobytes()
