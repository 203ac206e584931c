"""A sample of a source, packed to see how fast that goes and to load from."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import largeds_native as lds
from largeds_native.sources.base import IndexedSource

if TYPE_CHECKING:
    from largeds_native.cli.doctor.examine import Question
    from largeds_native.store import Store


class _Chosen(IndexedSource):
    """Some samples of a source, each as often as it is named."""

    def __init__(self, source: IndexedSource, numbers: Any) -> None:
        self._source, self._numbers = source, numbers
        self.classes, self.root = source.classes, source.root
        self.description = f"a sample of {source.description}"

    @property
    def fields(self) -> Any:
        return self._source.fields

    @property
    def count(self) -> int:
        return len(self._numbers)

    def take(self, indices: Any) -> Any:
        return self._source.take(self._numbers[indices])

    def fingerprint(self) -> str:
        return self._source.fingerprint()


def pack_sample(
    question: Question, source: IndexedSource, sample: Any, decoding: float, stack: ExitStack
) -> tuple[Store, Any, float]:
    """(the opened store of a sample, which of the sample are good, images/s of the pack)."""
    folder = Path(tempfile.mkdtemp(prefix="largeds-doctor-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    # long enough to tell: some samples come several times
    wanted = int(np.clip(decoding * question.share(3), len(sample), 20_000))
    wanted = min(wanted, max(len(sample), _room(folder) // (3 * 224 * 224)))
    numbers = np.resize(sample, wanted)
    chosen = _Chosen(source, numbers)
    store = lds.pack(
        chosen,
        folder / "sample.lds",
        resize=question.resize,
        crop=question.crop,
        threads=question.threads,
        progress=False,
    )
    stack.callback(store.close)
    report = store.report
    assert report is not None
    status = store.samples["row"].to_numpy()[: len(sample)]
    return store, np.flatnonzero(status >= 0), wanted / report.seconds


def _room(folder: Path) -> int:
    return min(1 << 30, shutil.disk_usage(folder).free // 2)
