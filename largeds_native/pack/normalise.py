"""uint8 rows -> float rows, as torchvision's ToTensor and Normalize give them."""

from __future__ import annotations

from typing import Any

import numpy as np

from largeds_native.pack.options import Options
from largeds_native.store.npy import Array


class Normaliser:
    """(x / 255 - mean) / std by a table of 256 values a channel, computed in double precision and rounded once."""

    def __init__(self, options: Options) -> None:
        self._dtype = np.dtype(options.dtype).newbyteorder("<")
        self._channels, self._planar = options.channels, options.layout == "CHW"
        values = np.arange(256, dtype=np.float64) / 255
        mean = options.mean or (0.0,) * options.channels
        std = options.std or (1.0,) * options.channels
        self._tables = [((values - m) / s).astype(self._dtype) for m, s in zip(mean, std, strict=True)]

    def apply(self, rows: Array, out: Array) -> None:
        """uint8 (n, values) -> bytes (n, values * itemsize)."""
        floats: np.ndarray[Any, np.dtype[Any]] = out.view(self._dtype)
        n, values = rows.shape
        pixels = values // self._channels
        shape = (n, self._channels, pixels) if self._planar else (n, pixels, self._channels)
        source, target = rows.reshape(shape), floats.reshape(shape)
        for channel, table in enumerate(self._tables):
            part = (slice(None), channel) if self._planar else (..., channel)
            target[part] = table[source[part]]
