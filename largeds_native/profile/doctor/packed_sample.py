"""Packs a sample of a source, to measure the speed of packing, and to have a store for loading."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from largeds_native.packing import pack
from largeds_native.profile.doctor.config import ProfileConfig
from largeds_native.sources.base import IndexedSource

if TYPE_CHECKING:
    from largeds_native.store import Store

MAX_IMAGES = 20_000
MAX_BYTES = 1 << 30  # largest size of the temporary store


class Subset(IndexedSource):
    """Selected samples of a source; indices may be repeated."""

    def __init__(self, source: IndexedSource, chosen: Any) -> None:
        self._source, self._chosen = source, chosen
        self.classes, self.root = source.classes, source.root
        self.description = f"a sample of {source.description}"

    @property
    def fields(self) -> Any:
        return self._source.fields

    @property
    def count(self) -> int:
        return len(self._chosen)

    def take(self, indices: Any) -> Any:
        return self._source.take(self._chosen[indices])

    def fingerprint(self) -> str | None:
        return self._source.fingerprint()


@dataclass(frozen=True)
class PackedSample:
    """good: indices in the sample of the images that could be decoded."""

    store: Store
    good: Any
    images_per_s: float


def pack_sample(
    config: ProfileConfig, source: IndexedSource, sample: Any, decode_rate: float, stack: ExitStack
) -> PackedSample:
    """`sample`: indices in the source. `stack` closes and removes the temporary store."""
    folder = Path(tempfile.mkdtemp(prefix="largeds-doctor-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    # enough images for about three seconds; if necessary, samples are repeated
    count = int(np.clip(decode_rate * config.scaled(3), len(sample), MAX_IMAGES))
    count = min(count, max(len(sample), _usable_bytes(folder) // (3 * 224 * 224)))
    store = pack(
        Subset(source, np.resize(sample, count)),
        folder / "sample.lds",
        resize=config.resize,
        crop=config.crop,
        threads=config.threads,
        max_failures=1.0,
        progress=False,
    )
    stack.callback(store.close)
    report = store.report
    assert report is not None
    rows = store.samples["row"].to_numpy()[: len(sample)]
    return PackedSample(store, np.flatnonzero(rows >= 0), count / report.seconds)


def _usable_bytes(folder: Path) -> int:
    return min(MAX_BYTES, shutil.disk_usage(folder).free // 2)
