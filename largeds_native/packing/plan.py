"""Which samples go where. What a shard holds is a function of (plan, shard number) alone."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from largeds_native.packing.options import Options
from largeds_native.sources import Source
from largeds_native.store.metadata import Metadata


@dataclass(frozen=True)
class Plan:
    """A job: `decoded` is (height, width) of every decoded image, `size` that of every row; `key` is the user's name
    for the samples."""

    source: Source
    options: Options
    decoded: tuple[int, int]
    libraries: Mapping[str, str]
    key: str | None = None

    @property
    def size(self) -> tuple[int, int]:
        return self.options.stored_size(self.decoded)

    @property
    def shape(self) -> tuple[int, int, int]:
        """One stored image's."""
        channels, (height, width) = self.options.channels, self.size
        return (channels, height, width) if self.options.layout == "CHW" else (height, width, channels)

    @property
    def sample_bytes(self) -> int:
        """Stored of each image, with all its variants."""
        return self.options.variants * math.prod(self.shape) * np.dtype(self.options.dtype).itemsize

    @property
    def shard_rows(self) -> int:
        """Samples that a shard takes from the source."""
        return max(1, self.options.shard_bytes // self.sample_bytes)

    @property
    def shards(self) -> int | None:
        return None if self.source.count is None else -(-self.source.count // self.shard_rows)

    def samples(self, shard: int) -> tuple[int, int]:
        """The range of the source that `shard` holds."""
        start = shard * self.shard_rows
        stop = start + self.shard_rows
        return start, stop if self.source.count is None else min(stop, self.source.count)

    @cached_property
    def identity(self) -> str | None:
        """Of the samples: what the source tells, and the user's key. None: unknown, never the same as before."""
        told = self.source.fingerprint()
        if self.key is None:
            return told
        return hashlib.sha256(json.dumps([self.key, told]).encode()).hexdigest()

    @property
    def origin(self) -> list[str | None]:
        """Where the samples come from, in words. No part of the fingerprint: the same files may lie elsewhere."""
        return [self.source.description, self.source.root]

    def fingerprint(self) -> str:
        """Two jobs share it when they write the same bytes: same samples, options, and decoders. Without an `identity`
        it says nothing of the samples."""
        job = {"source": self.identity, "size": self.size, "decoded": self.decoded, **self.manifest_parts()}
        return hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()

    def manifest_parts(self) -> dict[str, Any]:
        return {"options": self.options.to_json(), "libraries": dict(self.libraries)}

    def metadata(self, fingerprint: str) -> Metadata:
        """Of the store that the job makes, without the number of its rows and their statistics."""
        mean, std = self.options.mean, self.options.std
        return Metadata(
            rows=0,
            shape=self.shape,
            dtype=np.dtype(self.options.dtype).newbyteorder("<"),
            layout=self.options.layout,
            fields=self.source.fields,
            classes=self.source.classes,
            normalized=None if mean is None or std is None else (mean, std),
            variants=self.options.variants,
            options={**self.options.to_json(), "plan": fingerprint},
            libraries=self.libraries,
        )
