"""The plan of a pack: it assigns samples to shards. What a shard holds is a function of (plan, shard number) alone, so
that any process of any machine can pack any shard."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from largeds_native._internal.arrays import FieldSpec
from largeds_native.errors import ArgumentError
from largeds_native.packing.jpeg_estimate import estimated_row_bytes
from largeds_native.packing.mirror import Mirror
from largeds_native.packing.options import PackOptions
from largeds_native.sources import IndexedSource, Source
from largeds_native.store.metadata import Metadata


@dataclass(frozen=True)
class PackSettings:
    """What does not change the written bytes. threads: None for all that a process may use."""

    threads: int | None = None
    raise_errors: bool = False
    max_failures: int | float = 0.01


@dataclass(frozen=True)
class Plan:
    """One pack, as `largeds_native.packing.plan` makes it: `pack_shard(plan, number)` packs each of its `shards`, in
    any process, and `commit(plan)` makes the store of them. It can be pickled, if its source can.

    out: the folder of the store; of one in object storage, the folder for it on this machine. shards: their number;
    None for a source that tells its length only at its end. decoded: (height, width) of every image after resize and
    crop; size: of every stored row; both (0, 0) where rows are JPEG files. key: the user's name for the samples.
    """

    source: Source
    place: Path | Mirror
    options: PackOptions
    decoded: tuple[int, int]
    libraries: Mapping[str, str]
    key: str | None = None
    settings: PackSettings = PackSettings()

    @property
    def mirror(self) -> Mirror | None:
        """Where the store is written to object storage."""
        return self.place if isinstance(self.place, Mirror) else None

    @property
    def out(self) -> Path:
        return self.place.folder if isinstance(self.place, Mirror) else self.place

    @property
    def where(self) -> str:
        """The store's folder or URL, for messages."""
        return self.place.url if isinstance(self.place, Mirror) else str(self.place)

    def naming(self) -> AbstractContextManager[None]:
        """Errors in this block name the store as the user did."""
        return nullcontext() if self.mirror is None else self.mirror.named()

    @property
    def size(self) -> tuple[int, int]:
        return self.options.stored_size(self.decoded)

    @property
    def pictures(self) -> dict[str, FieldSpec]:
        """The masks and other pictures as they are stored."""
        return {name: spec.of_size(self.size) for name, spec in self.source.pictures.items()}

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one stored image."""
        channels, (height, width) = self.options.channels, self.size
        return (channels, height, width) if self.options.layout == "CHW" else (height, width, channels)

    @property
    def sample_bytes(self) -> int:
        """Stored bytes of one image with all its variants; an estimate where rows are JPEG files, from the options
        alone, so that every process and machine plans the same shards."""
        if self.options.quality is not None:
            return estimated_row_bytes(self.options.transform.resize, self.options.quality)
        return self.options.variants * math.prod(self.shape) * np.dtype(self.options.dtype).itemsize

    @property
    def shard_rows(self) -> int:
        """Number of source samples per shard."""
        return max(1, self.options.shard_bytes // self.sample_bytes)

    @property
    def shards(self) -> int | None:
        return None if self.source.count is None else -(-self.source.count // self.shard_rows)

    def samples(self, shard: int) -> tuple[int, int]:
        """The range [start, stop) of source samples in `shard`."""
        start = shard * self.shard_rows
        stop = start + self.shard_rows
        return start, stop if self.source.count is None else min(stop, self.source.count)

    def numbers(self, part: int = 1, parts: int = 1) -> range:
        """The shards of part 1, 2, ... of `parts`. Raises ArgumentError for a part out of this range, or a source that
        one process must read from its start to its end."""
        if not 1 <= part <= parts:
            raise ArgumentError(f"part: expected one from 1/{parts} to {parts}/{parts}, found {part}/{parts}")
        if self.shards is None or not isinstance(self.source, IndexedSource):
            raise ArgumentError(
                f"{self.source.description} is read from its start to its end, so one process packs it: leave parts "
                "and engines out"
            )
        return range(self.shards * (part - 1) // parts, self.shards * part // parts)

    def count(self, numbers: range) -> int:
        """Samples in consecutive shards."""
        return self.samples(numbers[-1])[1] - self.samples(numbers[0])[0] if numbers else 0

    def part(self, number: int, threads: int | None = None) -> Plan:
        """The same plan with the samples of one shard alone, where these are files: small enough to be sent. `threads`:
        of the process that packs it."""
        source = self.source
        if isinstance(source, IndexedSource):
            source = source.part(*self.samples(number))
        part = replace(self, source=source, settings=replace(self.settings, threads=threads or self.settings.threads))
        vars(part).update(identity=self.identity, files=self.files, fingerprint=self.fingerprint)
        return part

    @cached_property
    def identity(self) -> str | None:
        """Of the samples: what the source tells, and the user's key. None: unknown, never the same as before."""
        told = self.source.fingerprint()
        if self.key is None:
            return told
        fields = {name: (spec.dtype.str, spec.shape) for name, spec in {**self.source.fields, **self.pictures}.items()}
        known = [self.key, told, self.source.count, fields, self.source.classes]
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()

    @cached_property
    def files(self) -> str:
        """The state of the source's files, by which they are known to be the same as before; empty where the user's key
        or nothing tells it."""
        return "" if self.key is not None or self.identity is None else self.source.files_state()

    @property
    def origin(self) -> list[str | None]:
        """Where the samples come from, in words. No part of the fingerprint: the same files may lie elsewhere."""
        return [self.source.description, self.source.root]

    @cached_property
    def fingerprint(self) -> str:
        """Equal for jobs that write the same bytes: with the same samples, options and decoder versions. Without an
        `identity`, it says nothing about the samples."""
        job = {"source": self.identity, "size": self.size, "decoded": self.decoded, **self.manifest_parts()}
        if self.pictures:
            job["pictures"] = {name: (spec.role, str(spec.values), spec.ignore) for name, spec in self.pictures.items()}
        return hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()

    def manifest_parts(self) -> dict[str, Any]:
        return {"options": self.options.to_json(), "libraries": dict(self.libraries)}

    def metadata(self, fingerprint: str) -> Metadata:
        """Metadata of the resulting store, without its number of rows and statistics."""
        mean, std = self.options.mean, self.options.std
        return Metadata(
            rows=0,
            shape=self.shape,
            dtype=np.dtype(self.options.dtype).newbyteorder("<"),
            layout=self.options.layout,
            fields={**self.source.fields, **self.pictures},
            classes=self.source.classes,
            normalized=None if mean is None or std is None else (mean, std),
            variants=self.options.variants,
            options={**self.options.to_json(), "plan": fingerprint},
            libraries=self.libraries,
            codec=self.options.codec,
        )
