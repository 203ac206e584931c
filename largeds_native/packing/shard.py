"""Packs samples of a source into one shard."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from largeds_native.errors import DecodeError
from largeds_native.packing.engine import Engine
from largeds_native.packing.failures import shape_error
from largeds_native.packing.plan import Plan
from largeds_native.sources import FailedItem, SourceBatch
from largeds_native.sources.classes import check_labels
from largeds_native.store.format.sample_log import SampleResults
from largeds_native.store.format.writer import ShardWriter

OnShardProgress = Callable[[int, int], None]  # (samples done in this shard, of which failed); may raise to stop


class ShardFiller:
    """Packs the samples of a plan's shard; failed ones leave no gap."""

    def __init__(self, writer: ShardWriter, plan: Plan, number: int) -> None:
        self._writer, self._plan = writer, plan
        self._start, self._stop = plan.samples(number)
        self.samples = 0

    @property
    def failed(self) -> int:
        return self.samples - self._writer.rows

    def fill(self, engine: Engine, raise_errors: bool, on_progress: OnShardProgress) -> None:
        """Raises what `on_progress` raises; PackError if images end in several shapes; with `raise_errors`, DecodeError
        for the first sample that fails."""
        self._writer.reserve(self._stop - self._start)
        try:
            self._pack(engine, raise_errors, on_progress)
        except BaseException:
            engine.abort()  # before closing the file, as the threads write to it
            self._writer.close()
            raise

    def _pack(self, engine: Engine, raise_errors: bool, on_progress: OnShardProgress) -> None:
        """Overlaps work: the threads pack batch i while this thread logs batch i - 1 and fetches batch i + 1."""
        batches = self._plan.source.read(self._start, self._stop)
        batch = next(batches, None)
        done: tuple[SourceBatch, SampleResults] | None = None
        while batch is not None:
            _check_labels(batch, self._plan)
            first = self._start + self.samples
            samples = np.arange(first, first + len(batch.items))
            engine.start(batch.items, samples, self._writer.descriptor, self._writer.offset)
            self._log(done)
            following = next(batches, None)
            before, failed = self.samples, self.failed
            results = engine.finish(lambda n, before=before, failed=failed: on_progress(before + n, failed))  # type: ignore[misc]
            _check(batch, results, raise_errors, self._plan)
            written = 0 if results.jpeg is None else int(results.jpeg.bytes.sum())
            self._writer.advance(len(batch.items) - len(results.errors), written)
            self.samples += len(batch.items)
            done, batch = (batch, results), following
        self._log(done)

    def _log(self, done: tuple[SourceBatch, SampleResults] | None) -> None:
        if done is not None:
            batch, results = done
            self._writer.log(batch.names, results, batch.fields)


def _check_labels(batch: SourceBatch, plan: Plan) -> None:
    """Raises ArgumentError for a label that is no number of one of the classes that the source names."""
    labels = batch.fields.get("label")
    if labels is not None and labels.ndim == 1 and plan.source.classes:
        check_labels(batch, len(plan.source.classes), plan.source.description)


def _check(batch: SourceBatch, results: SampleResults, raise_errors: bool, plan: Plan) -> None:
    one_shape_guessed = plan.options.codec == "raw" and plan.options.transform.fixed_size is None
    for index, (reason, message) in sorted(results.errors.items()):
        results.errors[index] = reason, _without_folder(message, batch, index)
        if reason == "shape" and one_shape_guessed:
            raise shape_error(batch.names[index], results.errors[index][1], plan)
    if raise_errors and results.errors:
        index, (_, message) = min(results.errors.items())
        item = batch.items[index]
        cause = item.cause if isinstance(item, FailedItem) else None
        raise DecodeError(message if batch.names[index] in message else f"{batch.names[index]}: {message}") from cause


def _without_folder(message: str, batch: SourceBatch, index: int) -> str:
    """Replaces the file's path by its name in the store, which does not depend on the location of the source."""
    item = batch.items[index]
    path = item[0] if isinstance(item, tuple) else item
    return message.replace(path, batch.names[index]) if isinstance(path, str) else message
