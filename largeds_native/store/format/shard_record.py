"""`shard.json`: the record of a finished shard, from which the manifest is written without reading the shard."""

from __future__ import annotations

import builtins
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from largeds_native._internal.arrays import Array
from largeds_native.store.format.psnr import Psnr
from largeds_native.store.format.statistics import Sums

NAME = "shard.json"
_OF_JPEG = ("bytes", "turned", "source_bytes", "min_size", "max_size", "kept", "psnr")


@dataclass(frozen=True)
class ShardRecord:
    """`plan`: the fingerprint of the pack that wrote the shard, `libraries`: the versions of those that decoded it.
    `hash`: its `shard_digest`."""

    name: str
    plan: str
    rows: int
    samples: int
    failed: Mapping[str, int]
    decoders: Mapping[str, int]
    sums: Sums
    hash: str
    # of a JPEG store only
    bytes: int = 0  # of images.bin
    turned: bool = False  # some rows are not upright
    source_bytes: int = 0  # of the same images in their source
    min_size: tuple[int, int] = (0, 0)  # as shown, each side on its own
    max_size: tuple[int, int] = (0, 0)
    kept: Mapping[str, int] | None = None  # rows by how they were kept
    psnr: Psnr = field(default_factory=Psnr)
    picture_bytes: Mapping[str, int] = field(default_factory=dict)  # of each picture's file of PNG files
    libraries: Mapping[str, str] = field(default_factory=dict)

    def to_bytes(self) -> builtins.bytes:
        tree = asdict(self)
        if self.kept is None:
            tree = {name: value for name, value in tree.items() if name not in _OF_JPEG}
        if not self.picture_bytes:
            del tree["picture_bytes"]
        return (json.dumps(tree, indent=1) + "\n").encode()

    @classmethod
    def read(cls, shard: Path) -> ShardRecord | None:
        """None if the folder has no valid record."""
        try:
            tree = json.loads((shard / NAME).read_bytes())
            sums = tree.pop("sums")
            if "kept" in tree:
                tree |= {name: tuple(tree[name]) for name in ("min_size", "max_size")} | {"psnr": Psnr(**tree["psnr"])}
            return cls(sums=Sums(sums["count"], tuple(sums["total"]), tuple(sums["squares"])), **tree)
        except (OSError, ValueError, TypeError, KeyError):
            return None


def shard_name(number: int) -> str:
    return f"shard-{number:05d}"


def shard_digest(hashes: Array, fields: Mapping[str, Array]) -> str:
    """A digest of the hashes of a shard's rows and of the bytes of its fields; the manifest records it."""
    digest = hashlib.sha256(np.ascontiguousarray(hashes, "<u8").tobytes())
    for name, values in sorted(fields.items()):
        digest.update(name.encode() + b"\0" + np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()[:32]
