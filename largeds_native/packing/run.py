"""Runs a whole pack: check, resume, pack shard by shard, write manifest and report."""

from __future__ import annotations

import errno
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from largeds_native._internal.arrays import PNG_DTYPES, has_shape_of
from largeds_native._internal.machine import usable_threads
from largeds_native.errors import ArgumentError, LargedsError, PackError, StorageError
from largeds_native.packing import resume as state
from largeds_native.packing.class_names import numbered_classes
from largeds_native.packing.failures import check_failures, check_finished, check_packed_before, checked_max_failures
from largeds_native.packing.finisher import Finisher
from largeds_native.packing.kept_values import COLOURS, fitted
from largeds_native.packing.lock import FolderLock
from largeds_native.packing.options import PackOptions
from largeds_native.packing.plan import Plan
from largeds_native.packing.progress import PackProgressBar
from largeds_native.packing.shard import Engines, ShardFiller
from largeds_native.packing.size import row_size
from largeds_native.packing.summary import make_report
from largeds_native.sources import IndexedSource, ShuffledSource, Source
from largeds_native.store import PackedStore, open_packed
from largeds_native.store.format.writer import ShardWriter, commit
from largeds_native.store.report import Report


def run(
    source: Source,
    out: str | os.PathLike[str],
    options: PackOptions,
    threads: int | None,
    on_error: str,
    resume: bool,
    progress: bool,
    key: str | None = None,
    max_failures: int | float = 0.01,
    wait: bool = False,
) -> PackedStore:
    """Implements `largeds_native.pack`, after its options were checked."""
    if on_error not in ("skip", "raise"):
        raise ArgumentError(f"on_error: expected 'skip' or 'raise', found {on_error!r}")
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= 1024):
        raise ArgumentError(f"threads: expected a whole number from 1 to 1024, found {threads!r}")
    checked_max_failures(max_failures)
    if key is not None and (not isinstance(key, str) or not key):
        raise ArgumentError(f"key: expected a text that names the data, or None, found {key!r}")
    folder = Path(os.path.abspath(out))
    state.check_output(folder)
    state.check_apart(folder, source)
    plan = make_plan(source, options, key)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(folder, wait)
    except OSError as error:
        raise StorageError(error.errno, f"{folder} can't be written to: {error.strerror}") from error
    finisher = Finisher()
    try:
        fingerprint = plan.fingerprint()
        if state.begin(folder, plan, fingerprint, resume):
            check_finished(folder, max_failures, on_error == "raise")
        else:
            job = Job(plan, fingerprint, folder, threads or usable_threads(), on_error == "raise", finisher)
            job.run(progress, max_failures)
    except KeyboardInterrupt:
        ready = len(list(folder.glob("shard-*")))
        raise KeyboardInterrupt(
            f"stopped with {ready} of {plan.shards or 'an unknown number of'} shards finished in {folder}: "
            f"{_way_on(plan)}"
        ) from None
    except LargedsError:
        raise
    except OSError as error:
        raise _storage_error(error, folder) from error
    finally:
        finisher.detach(lock.release, timeout=0.5)
    return open_packed(folder)


def make_plan(source: Source, options: PackOptions, key: str | None = None) -> Plan:
    """Plans the pack. Raises early if there is no image, or the augmentation does not fit the images."""
    if source.count == 0:
        raise PackError(f"{source.description} has no image")
    options = fitted(options, source)
    if options.shuffle is not None:
        if not isinstance(source, IndexedSource):
            raise ArgumentError(f"shuffle: expected a source that can be read in any order, found {source.description}")
        source = ShuffledSource(source, options.shuffle)
    size = (0, 0) if options.codec == "jpeg" else row_size(source, options)
    plan = Plan(source, options, size, library_versions(), key)
    plan.metadata("")  # raises if the augmentation does not fit
    _check_fields(plan)
    _check_pictures(plan)
    return plan


def _check_pictures(plan: Plan) -> None:
    """Raises ArgumentError for masks and other pictures that can't be stored."""
    for name, spec in plan.pictures.items():
        kind = f"{spec.role}s"
        if plan.options.augment is not None:
            raise ArgumentError(
                f"augment: the {kind} {name!r} are not augmented ahead: pass augment to the Loader, which crops and "
                f"flips image and {spec.role} alike"
            )
        is_colour = spec.dtype == np.uint8 and spec.values.channels in COLOURS
        if not (spec.is_mask or is_colour) and plan.options.transform.resizes_without_antialias:
            raise ArgumentError(
                f"antialias=False: {name!r} has values of {spec.values}, which are resized with antialiasing: leave "
                "antialias out"
            )
        if plan.options.codec == "jpeg" and (spec.dtype.name not in PNG_DTYPES or spec.values.channels > 1):
            raise ArgumentError(
                f"{kind}: {name!r} has values of {spec.values}, and the PNG rows beside JPEG rows have one channel of "
                "8 or 16 bits: pack with codec='raw'"
            )


def _check_fields(plan: Plan) -> None:
    """Raises ArgumentError for a field of pictures that would not be cropped or resized as its image is."""
    size = plan.source.image_size or plan.decoded
    if plan.options.augment is None and (plan.decoded == size or _keeps(plan.options, size)):
        return
    for name, spec in plan.source.fields.items():
        if has_shape_of(spec, size):
            raise ArgumentError(
                f"field {name!r}: its values {spec.shape} are pictures of the images' size, and would not be resized, "
                "cropped and flipped as the images are: pack with resize=None, crop=None and no augment, or leave the "
                "field out"
            )


def _keeps(options: PackOptions, size: tuple[int, int]) -> bool:
    """Whether images of this size become JPEG rows of the same size."""
    resize = options.transform.resize
    return options.codec == "jpeg" and (not isinstance(resize, int) or min(size) <= resize)


def _way_on(plan: Plan) -> str:
    """What to do after a stop."""
    if plan.identity is not None:
        return "run the same pack again to go on from there"
    return (
        f"nothing tells this {plan.source.description} from another one, so begin again with resume=False; a pack "
        "with key='...', a name of yours for the data, can go on"
    )


def _storage_error(error: OSError, folder: Path) -> StorageError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(error.errno, f"the disk is full: make room for {folder} and pack again")
    return StorageError(error.errno, f"{error.filename or folder}: {error.strerror or error}")


def library_versions() -> dict[str, str]:
    """Versions of the libraries whose version may change pixels."""
    import PIL

    from largeds_native import _C

    return {**_C.codec_versions(), "pillow": PIL.__version__}


class Job:
    """Packs the shards that are not finished yet."""

    def __init__(
        self, plan: Plan, fingerprint: str, folder: Path, threads: int, raise_errors: bool, finisher: Finisher
    ) -> None:
        self._plan, self._fingerprint, self._folder = plan, fingerprint, folder
        self._metadata = plan.metadata(fingerprint)
        self._threads, self._raise_errors = threads, raise_errors
        self._finisher = finisher
        self._engines = Engines.of(plan.options, plan.pictures, plan.decoded, threads, folder)
        self._done = self._failed = 0

    def run(self, progress: bool, max_failures: int | float) -> None:
        before = state.finished_shards(self._folder, self._plan, self._fingerprint)
        start = time.perf_counter()
        self._done = resumed = sum(record.samples for record in before.values())
        self._failed, _ = check_packed_before(self._folder, before.values(), self._raise_errors)
        with PackProgressBar(self._plan.source.count, progress) as bar:
            number = 0
            while self._plan.shards is None or number < self._plan.shards:
                if number not in before and not self._pack_shard(number, bar, start, resumed):
                    break
                number += 1
            self._finisher.wait()
        seconds = time.perf_counter() - start
        records = before | self._finisher.records
        report = make_report(
            self._plan,
            self._folder,
            records,
            len(before),
            seconds,
            self._threads,
            self._engines.image.clock,
            self._finisher.waited,
            self._finisher.records.values(),
        )
        check_failures(report, self._plan, max_failures)
        in_order = [records[number] for number in sorted(records)]
        classes = numbered_classes(self._folder, in_order, self._metadata)
        commit(self._folder, in_order, replace(self._metadata, classes=classes))
        report.write(self._folder)
        state.clean(self._folder)
        if progress:
            _show(report)

    def _pack_shard(self, number: int, bar: PackProgressBar, start: float, resumed: int) -> bool:
        """Returns False if the source ended before this shard."""
        writer = ShardWriter(self._folder, number, self._metadata, self._fingerprint)
        filler = ShardFiller(writer, self._plan, number)
        done, failed = self._done, self._failed

        def on_progress(shard_done: int, shard_failed: int) -> None:
            elapsed = max(time.perf_counter() - start, 1e-9)
            bar.update(done + shard_done, failed + shard_failed, (done + shard_done - resumed) / elapsed)

        filler.fill(self._engines, self._raise_errors, on_progress)
        if filler.samples == 0:
            writer.discard()
            return False
        self._done, self._failed = done + filler.samples, failed + filler.failed
        try:
            self._finisher.add(number, writer.finish)
        except BaseException:  # the previous shard could not be finished
            writer.close()
            raise
        return True


def _show(report: Report) -> None:
    if sys.stderr.isatty():
        from rich.console import Console

        Console(stderr=True).print(report)
