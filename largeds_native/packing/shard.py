"""Packs samples of a source into one shard."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from largeds_native._internal.arrays import FieldSpec
from largeds_native.errors import DecodeError
from largeds_native.packing.engine import Engine, Int64Array
from largeds_native.packing.failures import shape_error
from largeds_native.packing.jpeg_engine import make_engine
from largeds_native.packing.options import PackOptions
from largeds_native.packing.pack_plan import Plan
from largeds_native.packing.picture_engine import make_picture_engine
from largeds_native.sources import FailedItem, Item, SourceBatch
from largeds_native.sources.classes import check_labels
from largeds_native.sources.fetch import read_batches
from largeds_native.store.format.sample_log import SampleResults
from largeds_native.store.format.writer import ShardWriter

OnShardProgress = Callable[[int, int], None]  # (samples done in this shard, of which failed); may raise to stop


@dataclass(frozen=True)
class Engines:
    """One for the images, and one for each mask or other picture."""

    image: Engine
    pictures: Mapping[str, Engine]
    roles: Mapping[str, str]

    def pack_pictures(
        self,
        batch: SourceBatch,
        samples: Int64Array,
        results: SampleResults,
        target: Callable[[str], tuple[int, int]] = lambda _: (-1, 0),
    ) -> None:
        """Adds the results of the pictures to those of the images: a sample fails if one of its pictures does.

        target: (descriptor, offset) of the file of a picture's rows; without it, they are only hashed.
        """
        for name, engine in self.pictures.items():
            engine.start(batch.pictures[name], samples, *target(name))
            found = engine.finish(lambda _: None)
            for index, (reason, message) in found.errors.items():
                item = batch.pictures[name][index]
                text = _without_folder(message, item, _end_of_path(item))
                # a picture that does not become as large as the raw rows is not of its image's size
                kind = f"{self.roles[name]}_size" if reason == "shape" else reason
                results.errors.setdefault(index, (kind, f"{name}: {text}"))
            for index in np.flatnonzero((found.width != results.width) | (found.height != results.height)).tolist():
                role, sizes = self.roles[name], [f"{one.height[index]}x{one.width[index]}" for one in (found, results)]
                words = f"{name}: the {role} has {sizes[0]} pixels (height x width), and the image {sizes[1]}"
                results.errors.setdefault(index, (f"{role}_size", words))
            found.errors = results.errors
            results.pictures[name] = found

    def close_gaps(self, results: SampleResults) -> None:
        self.image.close_gaps(results)
        for name, engine in self.pictures.items():
            engine.close_gaps(results.pictures[name])

    @classmethod
    def of(
        cls,
        options: PackOptions,
        pictures: Mapping[str, FieldSpec],
        size: tuple[int, int],
        threads: int,
        folder: Path | None = None,
    ) -> Engines:
        """`size`: of decoded images; `folder`: of the store, if rows are written."""
        of_pictures = {
            name: make_picture_engine(options, spec, size, threads, folder) for name, spec in pictures.items()
        }
        roles = {name: spec.role for name, spec in pictures.items()}
        return cls(make_engine(options, size, threads, folder), of_pictures, roles)

    def abort(self) -> None:
        for engine in (self.image, *self.pictures.values()):
            engine.abort()


class ShardFiller:
    """Packs the samples of a plan's shard; failed ones leave no gap."""

    def __init__(self, writer: ShardWriter, plan: Plan, number: int) -> None:
        self._writer, self._plan = writer, plan
        self._start, self._stop = plan.samples(number)
        self.samples = 0

    @property
    def failed(self) -> int:
        return self.samples - self._writer.rows

    def fill(self, engines: Engines, raise_errors: bool, on_progress: OnShardProgress) -> None:
        """Raises what `on_progress` raises; PackError if images end in several shapes; with `raise_errors`, DecodeError
        for the first sample that fails."""
        self._writer.reserve(self._stop - self._start)
        try:
            self._pack(engines, raise_errors, on_progress)
        except BaseException:
            engines.abort()  # before closing the files, as the threads write to them
            self._writer.close()
            raise

    def _pack(self, engines: Engines, raise_errors: bool, on_progress: OnShardProgress) -> None:
        """Overlaps work: the threads pack batch i while this thread logs batch i - 1 and fetches batch i + 1."""
        batches = read_batches(self._plan.source, self._start, self._stop)
        batch = next(batches, None)
        done: tuple[SourceBatch, SampleResults] | None = None
        while batch is not None:
            _check_labels(batch, self._plan)
            first = self._start + self.samples
            samples = np.arange(first, first + len(batch.items))
            engines.image.start(batch.items, samples, self._writer.descriptor, self._writer.offset)
            self._log(done)
            following = next(batches, None)
            before, failed = self.samples, self.failed
            results = engines.image.finish(lambda n, before=before, failed=failed: on_progress(before + n, failed))  # type: ignore[misc]
            engines.pack_pictures(batch, samples, results, self._writer.picture_target)
            _check(batch, results, raise_errors, self._plan)
            engines.close_gaps(results)
            self._writer.advance(len(batch.items) - len(results.errors), results)
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
        results.errors[index] = reason, _without_folder(message, batch.items[index], batch.names[index])
        if reason == "shape" and one_shape_guessed:
            raise shape_error(batch.names[index], results.errors[index][1], plan)
    if raise_errors and results.errors:
        index, (_, message) = min(results.errors.items())
        item = batch.items[index]
        cause = item.cause if isinstance(item, FailedItem) else None
        raise DecodeError(message if batch.names[index] in message else f"{batch.names[index]}: {message}") from cause


def _end_of_path(item: Item) -> str:
    """The last folder and the name of a picture's file: its image has another name."""
    path = item[0] if isinstance(item, tuple) else item
    return os.path.join(*path.split(os.sep)[-2:]) if isinstance(path, str) and path else ""


def _without_folder(message: str, item: Item, name: str) -> str:
    """Replaces the file's path by the sample's name, which does not depend on the location of the source."""
    path = item[0] if isinstance(item, tuple) else item
    return message.replace(path, name) if isinstance(path, str) else message
