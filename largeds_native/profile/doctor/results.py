"""What `largeds doctor` measured, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

PartKind = Literal["memory", "files", "disk", "cache", "decode", "pack", "workers", "gather", "loader", "step"]


@dataclass(frozen=True)
class Part:
    """One part of the work alone. An epoch takes at least as long as its slowest part, unless another hides it."""

    kind: PartKind
    name: str
    images_per_s: float


@dataclass(frozen=True)
class LoopResult:
    """A training loop with all parts at once, and the time of an epoch that follows from a window of it.

    spread: half the 95 % interval of the epoch's time, as a share of it. waiting: share of the time spent waiting for
    data."""

    name: str
    images_per_s: float
    start_seconds: float
    epoch_seconds: float
    spread: float
    waiting: float


@dataclass
class ProfileResults:
    """is_store: the target was packed already. fits: the packed images fit into memory. baseline: the loop over the
    source's files, or the user's script; packed: the loop over the store, or over a packed sample of the source."""

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

    @property
    def store_bytes(self) -> int:
        return self.images * self.image_bytes
