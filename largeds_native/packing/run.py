"""A whole pack: check, resume, shard after shard, manifest, report."""

from __future__ import annotations

import errno
import os
import sys
import time
from pathlib import Path

import numpy as np

from largeds_native._internal.machine import usable_threads
from largeds_native.errors import ArgumentError, LargedsError, PackError, StorageError
from largeds_native.packing import resume as state
from largeds_native.packing.engine import Engine
from largeds_native.packing.finisher import Finisher
from largeds_native.packing.lock import FolderLock
from largeds_native.packing.options import Options
from largeds_native.packing.plan import Plan
from largeds_native.packing.progress import ProgressBar
from largeds_native.packing.record import ShardRecord
from largeds_native.packing.shard import ShardWriter
from largeds_native.packing.size import row_size
from largeds_native.packing.statistics import mean_std
from largeds_native.packing.summary import make_report
from largeds_native.sources import IndexedSource, Shuffled, Source
from largeds_native.store import Store, open_store
from largeds_native.store.files import atomic_write_bytes
from largeds_native.store.manifest import NAME, Manifest, ShardEntry
from largeds_native.store.report import Report


def run(
    source: Source,
    out: str | os.PathLike[str],
    options: Options,
    threads: int | None,
    on_error: str,
    resume: bool,
    progress: bool,
) -> Store:
    """What `largeds_native.pack` does, with its options checked."""
    if on_error not in ("skip", "raise"):
        raise ArgumentError(f"on_error: expected 'skip' or 'raise', found {on_error!r}")
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= 1024):
        raise ArgumentError(f"threads: expected a whole number from 1 to 1024, found {threads!r}")
    folder = Path(os.path.abspath(out))
    state.check_output(folder)
    if source.count == 0:
        raise PackError(f"{source.description} has no image")
    if options.shuffle is not None:
        if not isinstance(source, IndexedSource):
            raise ArgumentError(f"shuffle: expected a source that can be read in any order, found {source.description}")
        source = Shuffled(source, options.shuffle)
    plan = Plan(source, options, row_size(source, options), library_versions())
    plan.images_shape(0)  # an augmentation that does not fit is told before anything is written
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(folder)
    except OSError as error:
        raise StorageError(error.errno, f"{folder} can't be written to: {error.strerror}") from error
    finisher = Finisher()
    try:
        fingerprint = plan.fingerprint()
        if not state.begin(folder, plan, fingerprint, resume):
            job = Job(plan, fingerprint, folder, threads or usable_threads(), on_error == "raise", finisher)
            job.run(progress)
    except KeyboardInterrupt:
        ready = len(list(folder.glob("shard-*")))
        raise KeyboardInterrupt(
            f"stopped with {ready} of {plan.shards or 'an unknown number of'} shards finished in {folder}: "
            "run the same pack again to go on from there"
        ) from None
    except LargedsError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(error.errno, f"the disk is full: make room for {folder} and pack again") from error
        raise StorageError(error.errno, f"{error.filename or folder}: {error.strerror or error}") from error
    finally:
        finisher.leave(lock.release, 0.5)
    return open_store(folder)


def library_versions() -> dict[str, str]:
    """The libraries whose version may change a pixel."""
    import PIL

    from largeds_native import _C

    return {**_C.codec_versions(), "pillow": PIL.__version__}


class Job:
    """One run over the shards that are not finished yet."""

    def __init__(
        self, plan: Plan, fingerprint: str, folder: Path, threads: int, raise_errors: bool, finisher: Finisher
    ) -> None:
        self._plan, self._fingerprint, self._folder = plan, fingerprint, folder
        self._threads, self._raise_errors = threads, raise_errors
        self._finisher = finisher
        self._engine = Engine(plan.options, plan.decoded, threads)
        self._done = self._failed = 0

    def run(self, progress: bool) -> None:
        before = state.finished_shards(self._folder, self._plan, self._fingerprint)
        records = dict(before)
        start = time.perf_counter()
        self._done = resumed = sum(record.samples for record in before.values())
        self._failed = sum(sum(record.failed.values()) for record in before.values())
        with ProgressBar(self._plan.source.count, progress) as bar:
            number = 0
            while self._plan.shards is None or number < self._plan.shards:
                if number not in before and not self._pack_shard(number, bar, start, resumed):
                    break
                number += 1
            self._finisher.wait()
        records.update(self._finisher.records)
        seconds = time.perf_counter() - start
        report = make_report(
            self._plan,
            self._folder,
            records,
            len(before),
            seconds,
            self._threads,
            self._engine.clock,
            self._finisher.waited,
            sum(record.rows for record in self._finisher.records.values()),
        )
        ordered = [records[i] for i in sorted(records)]
        if not any(record.rows for record in ordered):
            words = ", ".join(f"{count:,} {reason}" for reason, count in report.failed.items())
            first = f"{report.failures[0].source}: {report.failures[0].error}" if report.failures else "unknown"
            raise PackError(
                f"none of the {report.total:,} images of {self._plan.source.description} could be packed: "
                f"{words}; the first: {first}"
            )
        self._write_manifest(ordered)
        report.write(self._folder)
        state.clean(self._folder)
        if progress:
            _show(report)

    def _pack_shard(self, number: int, bar: ProgressBar, start: float, resumed: int) -> bool:
        """False when the source has ended before this shard."""
        writer = ShardWriter(self._plan, number, self._folder, self._fingerprint)
        done, failed = self._done, self._failed

        def watch(shard_done: int, shard_failed: int) -> None:
            elapsed = max(time.perf_counter() - start, 1e-9)
            bar.update(done + shard_done, failed + shard_failed, (done + shard_done - resumed) / elapsed)

        writer.fill(self._engine, self._raise_errors, watch)
        if writer.samples == 0:
            writer.discard()
            return False
        self._done, self._failed = done + writer.samples, failed + writer.failed
        self._finisher.add(number, writer.finish)
        return True

    def _write_manifest(self, records: list[ShardRecord]) -> None:
        options = self._plan.options
        baked = options.mean is not None and options.std is not None
        manifest = Manifest(
            rows=sum(record.rows for record in records),
            shape=self._plan.shape,
            dtype=np.dtype(options.dtype).newbyteorder("<"),
            layout=options.layout,
            shards=tuple(ShardEntry(record.name, record.rows, record.hash) for record in records),
            fields=self._plan.source.fields,
            classes=self._plan.source.classes,
            normalized=(options.mean or (), options.std or ()) if baked else None,
            statistics=mean_std((record.sums for record in records), options.channels),
            variants=options.variants,
            options={**options.to_json(), "plan": self._fingerprint},
            libraries=self._plan.libraries,
        )
        atomic_write_bytes(self._folder / NAME, manifest.to_bytes())


def _show(report: Report) -> None:
    if sys.stderr.isatty():
        from rich.console import Console

        Console(stderr=True).print(report)
