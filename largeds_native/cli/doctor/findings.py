"""What the doctor found, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["memory", "files", "disk", "cache", "decode", "pack", "workers", "gather", "loader", "step"]


@dataclass(frozen=True)
class Part:
    """One part alone. An epoch can't be shorter than its slowest part that is not overlapped away."""

    kind: Kind
    name: str
    images_per_s: float


@dataclass(frozen=True)
class Loop:
    """The true loop, all parts at once, and the epoch that follows from a window of it.

    spread: half the 95 % interval of the epoch's time, as a share of it. waiting: share of the time spent waiting for
    data."""

    name: str
    images_per_s: float
    start_seconds: float
    epoch_seconds: float
    spread: float
    waiting: float


@dataclass
class Findings:
    """fits: whether the packed images fit into memory. today: the loop over the source's files, or the user's script;
    packed: the loop over the store, or over a sample that was packed."""

    target: str
    packed_already: bool
    images: int
    image_bytes: int
    batch_size: int
    model: str | None
    device: str
    threads: int
    fits: bool = True
    dtype: str = "uint8"
    parts: list[Part] = field(default_factory=list)
    today: Loop | None = None
    packed: Loop | None = None
    pack_seconds: float | None = None
    script: str | None = None

    @property
    def store_bytes(self) -> int:
        return self.images * self.image_bytes
