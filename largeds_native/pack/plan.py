"""Which samples go where. What a shard holds is a function of (plan, shard number) alone."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from largeds_native.pack.options import Options
from largeds_native.sources import Source


@dataclass(frozen=True)
class Plan:
    """A job: `size` is (height, width) of every row."""

    source: Source
    options: Options
    size: tuple[int, int]
    libraries: Mapping[str, str]

    @property
    def shape(self) -> tuple[int, int, int]:
        """One stored image's."""
        channels, (height, width) = self.options.channels, self.size
        return (channels, height, width) if self.options.layout == "CHW" else (height, width, channels)

    @property
    def pixels(self) -> int:
        """Values of one image; also its bytes while it is uint8."""
        return math.prod(self.shape)

    @property
    def row_bytes(self) -> int:
        return self.pixels * {"uint8": 1, "float16": 2, "float32": 4}[self.options.dtype]

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
        job = {"source": self.source.fingerprint(), "size": self.size, **self.manifest_parts()}
        return hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()

    def manifest_parts(self) -> dict[str, Any]:
        return {"options": self.options.to_json(), "libraries": dict(self.libraries)}


def shard_name(number: int) -> str:
    return f"shard-{number:05d}"
