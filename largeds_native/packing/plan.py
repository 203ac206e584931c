"""Which samples go where. What a shard holds is a function of (plan, shard number) alone."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from largeds_native.packing.options import Options
from largeds_native.packing.rowspec import stored_size
from largeds_native.sources import Source


@dataclass(frozen=True)
class Plan:
    """A job: `decoded` is (height, width) of every decoded image, `size` that of every row."""

    source: Source
    options: Options
    decoded: tuple[int, int]
    libraries: Mapping[str, str]

    @property
    def size(self) -> tuple[int, int]:
        return stored_size(self.options, self.decoded)

    @property
    def shape(self) -> tuple[int, int, int]:
        """One stored image's."""
        channels, (height, width) = self.options.channels, self.size
        return (channels, height, width) if self.options.layout == "CHW" else (height, width, channels)

    def images_shape(self, rows: int) -> tuple[int, ...]:
        """Of the images of so many samples."""
        return (rows, *self.shape) if self.options.variants == 1 else (rows, self.options.variants, *self.shape)

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape) * {"uint8": 1, "float16": 2, "float32": 4}[self.options.dtype]

    @property
    def shard_rows(self) -> int:
        """Samples that a shard takes from the source."""
        return max(1, self.options.shard_bytes // (self.row_bytes * self.options.variants))

    @property
    def shards(self) -> int | None:
        return None if self.source.count is None else -(-self.source.count // self.shard_rows)

    def samples(self, shard: int) -> tuple[int, int]:
        """The range of the source that `shard` holds."""
        start = shard * self.shard_rows
        stop = start + self.shard_rows
        return start, stop if self.source.count is None else min(stop, self.source.count)

    def fingerprint(self) -> str:
        """Two jobs share it when they write the same bytes: same list of samples, options, and decoders."""
        job = {"source": self.source.fingerprint(), "size": self.size, "decoded": self.decoded, **self.manifest_parts()}
        return hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()

    def manifest_parts(self) -> dict[str, Any]:
        return {"options": self.options.to_json(), "libraries": dict(self.libraries)}


def shard_name(number: int) -> str:
    return f"shard-{number:05d}"
