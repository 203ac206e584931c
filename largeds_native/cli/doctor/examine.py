"""The examination: each part alone, then the true loop, in a bounded time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

import largeds_native as lds
from largeds_native._internal.machine import usable_memory
from largeds_native.cli.doctor import parts
from largeds_native.cli.doctor.course import Course, guarded, loop_of
from largeds_native.cli.doctor.findings import Findings, Loop, Part
from largeds_native.cli.doctor.sample import pack_sample
from largeds_native.cli.doctor.today import Files, Size, loop_over_files
from largeds_native.cli.doctor.work import Nothing, TrainingStep
from largeds_native.cli.training import normalised, number_of_classes, shift_and_flip
from largeds_native.errors import ArgumentError
from largeds_native.sources.base import IndexedSource, Source

if TYPE_CHECKING:
    from largeds_native.store import Store

USUAL_SECONDS = 25.0
SAMPLE_BYTES = 1 << 29  # of a store or a source that is looked at
WARMUP = 4  # batches of a pass before the steady state: the loader has 3 ahead


@dataclass(frozen=True)
class Question:
    """make_model(classes, store) gives the model to train; None asks about the data alone. seconds: for all of it,
    where steps take less than a second or two."""

    batch_size: int
    device: torch.device
    threads: int
    make_model: Callable[[int, Store], nn.Module] | None = None
    model: str | None = None
    resize: Size = 256
    crop: Size = 224
    seconds: float = USUAL_SECONDS
    note: Callable[[str], object] = lambda text: None

    def share(self, seconds: float) -> float:
        """Of the usual time, so much of the time that is given."""
        return seconds * self.seconds / USUAL_SECONDS


def examine_store(question: Question, store: Store) -> Findings:
    """What limits an epoch over a store."""
    if len(store) == 0:
        raise ArgumentError(f"{store.path} has no image: there is nothing to load")
    findings = _findings(question, str(store.path), len(store), store)
    findings.packed_already = True
    findings.parts.append(_memory(question, store))
    findings.packed = _store_parts(question, store, findings, len(store), disk=2, loader=2.5, step=4, loop=12)
    return findings


def examine_source(question: Question, source: Source, target: str) -> Findings:
    """What limits an epoch over a source, as it is done today and packed: a sample of it is packed for that."""
    if not isinstance(source, IndexedSource):
        raise ArgumentError(f"expected a source that can be read in any order, found {source.description}")
    random = np.random.default_rng(0)
    sample = np.sort(random.choice(source.count, min(source.count, 4096), replace=False))
    taken = source.take(sample)
    items = taken.items
    with ExitStack() as stack:
        question.note("reading files, nothing of them in memory")
        usual, warm, read = parts.disk(parts.up_to(parts.item_ranges(items), SAMPLE_BYTES), question.share(2), 2)
        items, sample = items[:read], sample[:read]
        question.note("decoding")
        sizes = {"resize": question.resize, "crop": question.crop}
        decoding = parts.decode(items, sizes, question.threads, question.share(1.5))
        question.note("packing a sample")
        store, good, packing = pack_sample(question, source, sample, decoding, stack)
        findings = _findings(question, target, source.count, store)
        findings.parts += [
            _memory(question, store),
            Part("files", "files from disk, cold", usual),
            Part("files", "files from the page cache", warm),
            Part("decode", f"decode and resize, largeds, {_threads(question)}", decoding),
            Part("pack", "pack, all of it", packing),
        ]
        findings.pack_seconds = source.count / packing
        chosen = [items[i] for i in good]
        labels = None if "label" not in taken.fields else taken.fields["label"][:read][good].tolist()
        files = Files(chosen, labels, question.resize, question.crop)
        step = _training_step(question, store)
        findings.today = loop_over_files(question, files, step, findings)
        findings.packed = _store_parts(
            question, store, findings, source.count, disk=0.7, loader=1.5, step=2, loop=5, step_of=step
        )
    return findings


def _findings(question: Question, target: str, images: int, store: Store) -> Findings:
    image_bytes = store.row_bytes * store.variants
    return Findings(
        target,
        False,
        images,
        image_bytes,
        question.batch_size,
        question.model,
        str(question.device),
        question.threads,
        fits=images * image_bytes < 0.8 * usable_memory(),
        dtype=store.dtype.name,
    )


def _threads(question: Question) -> str:
    return f"{question.threads} thread{'s' * (question.threads != 1)}"


def _memory(question: Question, store: Store) -> Part:
    question.note("copying memory")
    return Part("memory", "memory copy", parts.memory_copy(store.row_bytes, question.threads, question.share(0.5)))


def _store_parts(
    question: Question,
    store: Store,
    findings: Findings,
    images: int,
    *,
    disk: float,
    loader: float,
    step: float,
    loop: float,
    step_of: TrainingStep | None = None,
) -> Loop:
    """The parts of loading from a store, and the loop over it; an epoch has `images`."""
    most = max(2 * question.batch_size, SAMPLE_BYTES // (store.row_bytes * store.variants))
    rows = np.arange(len(store)) if len(store) <= most else _sample(len(store), most)
    question.note("reading rows, nothing of them in memory")
    cold, warm, read = parts.disk(parts.row_ranges(store, rows.tolist()), question.share(disk), question.threads)
    rows = rows[: max(read, min(2 * question.batch_size, len(rows)))]
    words = normalised(store)
    question.note("gathering")
    gathering = parts.gather(store, rows.tolist(), question.batch_size, words, question.share(0.7))
    findings.parts += [
        Part("disk", "rows from disk, cold", cold),
        Part("cache", "rows from the page cache", warm),
        Part("gather", "gather, no augmentation", gathering),
    ]
    with _loader(question, store, rows, words) as batches:
        question.note("the loader alone")
        warmup = min(WARMUP, max(0, len(batches) - 2))
        course = Course(question.share(loader), warmup, 2)
        alone = course.steady(lambda: batches, Nothing(), question.batch_size, images)
        findings.parts.append(Part("loader", f"Loader alone, {_threads(question)}", alone.images_per_s))
        work = step_of or _training_step(question, store)
        if work is None:
            return loop_of("an epoch of the Loader", alone)
        question.note(f"{question.model} alone")
        batch = next(iter(batches))
        rate = guarded(lambda: work.alone(batch, question.share(step)))
        question.note(f"{question.model} with the Loader")
        course = Course(question.share(loop), warmup, 2).beside(work, alone.batch_seconds)
        packed = loop_of("an epoch, packed", course.steady(lambda: batches, work, question.batch_size, images))
        # a loop can't be faster than its step: where it seems so, the step alone was watched too briefly
        rate = max(rate, packed.images_per_s, findings.today.images_per_s if findings.today else 0.0)
        findings.parts.append(Part("step", f"training step of {question.model}, {question.device}", rate))
        return packed


def _sample(count: int, most: int) -> Any:
    """Rows spread evenly: a permutation of all of them would take memory that grows with the store."""
    return np.unique(np.random.default_rng(0).integers(0, count, most))


def _loader(question: Question, store: Store, rows: Any, words: dict[str, Any]) -> lds.Loader:
    usable = "label" in store.fields and _classes(store) is not None
    return lds.Loader(
        store,
        question.batch_size,
        shuffle=True,
        indices=rows,
        augment=shift_and_flip(store),
        device=question.device,
        threads=question.threads,
        fields=("label",) if usable else (),
        # one image alone has no variance for BatchNorm to divide by
        drop_last=len(rows) > question.batch_size and len(rows) % question.batch_size == 1,
        **words,
    )


def _classes(store: Store) -> int | None:
    try:
        return number_of_classes(store)
    except ArgumentError:
        return None  # there is nothing to learn, and yet something to measure


def _training_step(question: Question, store: Store) -> TrainingStep | None:
    if question.make_model is None:
        return None
    return TrainingStep(question.make_model(_classes(store) or 1000, store), question.device)
