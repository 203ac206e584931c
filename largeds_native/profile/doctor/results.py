"""The results of `largeds doctor`, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Codec = Literal["raw", "jpeg"]
PartKind = Literal["memory", "files", "disk", "cache", "decode", "pack", "workers", "gather", "loader", "step"]


@dataclass(frozen=True)
class Part:
    """The speed of one part of the work alone."""

    kind: PartKind
    name: str
    images_per_s: float


@dataclass(frozen=True)
class RowsRate:
    """A kind of rows: bytes of one image, images/s of the Loader alone and of reading them from the disk, and whether
    all of them fit into memory. has_room: whether they are on a disk already, or the current folder's has room."""

    codec: Codec
    image_bytes: int
    loader: float
    disk: float
    fits: bool
    has_room: bool = True


@dataclass(frozen=True)
class LoopResult:
    """A training loop with all parts, and the time of an epoch estimated from a window of it.

    spread: half the width of the 95 % interval of the epoch's time, relative to it. waiting: share of the time spent
    waiting for data."""

    name: str
    images_per_s: float
    start_seconds: float
    epoch_seconds: float
    spread: float
    waiting: float


@dataclass
class ProfileResults:
    """is_store: whether the target is a store. fits: whether the packed images fit into memory. codec: of the store, or
    of the packed sample. baseline: the loop over the source's files, or of the user's script. packed: the loop over the
    store, or over a packed sample of the source. rows: both kinds of rows, if both were measured. free_bytes: of the
    disk of the current folder. remote_files: the file system of the target if its files are on another machine, as
    "nfs4", else ""."""

    target: str
    is_store: bool
    images: int
    image_bytes: int
    batch_size: int
    model: str | None
    device: str
    threads: int
    fits: bool = True
    dtype: str = "uint8"
    parts: list[Part] = field(default_factory=list)
    baseline: LoopResult | None = None
    packed: LoopResult | None = None
    pack_seconds: float | None = None
    script: str | None = None
    codec: Codec = "raw"
    rows: list[RowsRate] = field(default_factory=list)
    free_bytes: int = 0
    remote_files: str = ""

    @property
    def store_bytes(self) -> int:
        return self.images * self.image_bytes
