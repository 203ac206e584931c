"""Profiles a store, a source or a script: each part alone, then the real training loop, in a bounded time."""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from largeds_native._internal.machine import remote_file_system, usable_memory
from largeds_native._internal.units import size
from largeds_native._internal.urls import is_url, without_credentials
from largeds_native.errors import ArgumentError, PackError, StoreError
from largeds_native.loading import Loader
from largeds_native.opening import open_store
from largeds_native.profile.classifier import normalization, number_of_classes, training_augment
from largeds_native.profile.doctor import parts, rows
from largeds_native.profile.doctor.baseline import ImageFiles, measure_baseline
from largeds_native.profile.doctor.config import ProfileConfig
from largeds_native.profile.doctor.measurement_plan import MeasurementPlan, loop_result, with_short_errors
from largeds_native.profile.doctor.packed_sample import pack_sample
from largeds_native.profile.doctor.results import LoopResult, Part, ProfileResults
from largeds_native.profile.doctor.script import run_script, split_command
from largeds_native.profile.doctor.workload import NoWork, TrainingStep
from largeds_native.sources import as_source
from largeds_native.sources.base import IndexedSource, Source
from largeds_native.store import JpegStore, Store
from largeds_native.store.format.manifest import NAME as MANIFEST

SAMPLE_BYTES = 1 << 29  # largest number of bytes of a store or a source that are read
SAMPLE_FILES = 4096
WARMUP = 4  # batches of a pass before the steady state, as the loader prefetches 3


class LoadingTimes(NamedTuple):
    """Seconds of each measurement of loading from a store, in a profile of DEFAULT_SECONDS."""

    disk: float
    loader: float
    step: float
    loop: float


STORE_TIMES = LoadingTimes(disk=2, loader=2.5, step=4, loop=12)
SOURCE_TIMES = LoadingTimes(disk=0.7, loader=1.5, step=2, loop=5)


def profile_path(config: ProfileConfig, target: Path | str) -> ProfileResults:
    """Profiles an epoch over a store, or over a source that could be packed. ArgumentError for a URL."""
    if is_url(target):
        raise ArgumentError(_about_url(str(target)))
    if not os.path.exists(target) and not set(str(target)) & set("*?[{"):  # no pattern of tar files
        raise PackError(f"{target} does not exist: expected a store, or images to pack")
    target = Path(target)
    if (target / MANIFEST).exists() or target.suffix in (".h5", ".hdf5", ".npy"):
        with open_store(target) as store:
            return profile_store(config, store)
    config.progress("listing the images")
    return profile_source(config, as_source(target), str(target))


def _about_url(url: str) -> str:
    """What to do with what lies at a URL: from here, only its size is known."""
    shown = without_credentials(url)
    try:
        with open_store(url) as store:
            bytes, images = store.nbytes, len(store)
    except StoreError:
        return f"{shown}: the doctor measures local files: copy a part of the images, and give that folder"
    free = shutil.disk_usage(".").free
    store_facts = f"{shown} has {images:,} images, {size(bytes)}, and the disk of this folder has {size(free)} free"
    if bytes < free:
        return f"{store_facts}: `largeds pull {shown} STORE.lds`, and give the copy"
    return (
        f"{store_facts}: where no disk has room, open it with cache= and cache_bytes=, and load it with order='block', "
        "block='shard', which fetches each shard once an epoch"
    )


def profile_store(config: ProfileConfig, store: Store) -> ProfileResults:
    """Profiles an epoch over a store."""
    if len(store) == 0:
        raise ArgumentError(f"{store.path} has no images: there is nothing to load")
    results = _new_results(config, str(store.path), len(store), store)
    results.is_store = True
    results.parts.append(_memory(config, store))
    step = _training_step(config, store)
    results.packed = _measure_loading(config, store, results, STORE_TIMES, step)
    if isinstance(store, JpegStore):
        rows.measure_rows_of_store(config, store, _sample_rows(len(store), rows.SAMPLE_IMAGES).tolist(), results)
    return results


def profile_source(config: ProfileConfig, source: Source, target: str) -> ProfileResults:
    """Profiles an epoch over the files of a source, and over the packed source, of which a sample is packed."""
    if not isinstance(source, IndexedSource):
        raise ArgumentError(f"expected a source that can be read in any order, found {source.description}")
    random = np.random.default_rng(0)
    sample = np.sort(random.choice(source.count, min(source.count, SAMPLE_FILES), replace=False))
    taken = source.take(sample)
    items = taken.items
    with ExitStack() as stack:
        config.progress("reading files, after dropping them from the page cache")
        ranges = parts.first_bytes(parts.item_ranges(items), SAMPLE_BYTES)
        cold, warm, read = parts.read_rates(ranges, config.scaled(2), 2)
        items, sample = items[:read], sample[:read]
        config.progress("decoding")
        sizes = {"resize": config.resize, "crop": config.crop}
        decode_rate = parts.decode_rate(items, sizes, config.threads, config.scaled(1.5))
        config.progress("packing a sample")
        packed = pack_sample(config, source, sample, decode_rate, stack)
        results = _new_results(config, target, source.count, packed.store)
        results.parts += [
            _memory(config, packed.store),
            Part("files", "files from disk, cold", cold),
            Part("files", "files from the page cache", warm),
            Part("decode", f"decode and resize, largeds, {_threads(config)}", decode_rate),
            Part("pack", "pack, all of it", packed.images_per_s),
        ]
        results.pack_seconds = source.count / packed.images_per_s
        labels = None if "label" not in taken.fields else taken.fields["label"][:read][packed.good].tolist()
        files = ImageFiles([items[i] for i in packed.good], labels, config.resize, config.crop)
        step = _training_step(config, packed.store)
        results.baseline = measure_baseline(config, files, step, results)
        results.packed = _measure_loading(config, packed.store, results, SOURCE_TIMES, step)
        rows.measure_rows_of_source(config, source, sample, packed.store, results)
    return results


def profile_script(config: ProfileConfig, target: Path | str, command: str) -> ProfileResults:
    """Profiles an epoch of a user's script. Its own loop is the baseline; `target` gives the speed of the Loader."""
    arguments = split_command(command)
    results = profile_path(config, target)
    script = run_script(arguments, config.seconds, results.images, config.progress)
    results.script, results.baseline = command, script.loop
    results.images, results.batch_size = script.images, script.batch_size
    results.parts = [part for part in results.parts if part.kind != "workers"] + script.parts()
    assert results.packed is not None
    # on the CPU, the step and the loader share the processors, so their times add up
    loader = script.batch_size / results.packed.images_per_s
    batch = script.step_seconds + loader if config.device.type == "cpu" else max(script.step_seconds, loader)
    rate = script.batch_size / batch
    results.packed = dataclasses.replace(
        results.packed,
        name="an epoch of the script with lds.Loader, about",
        images_per_s=rate,
        epoch_seconds=results.images / rate,
        spread=math.nan,
        waiting=0.0,
    )
    return results


def _new_results(config: ProfileConfig, target: str, images: int, store: Store) -> ProfileResults:
    image_bytes = store.row_bytes * store.variants
    return ProfileResults(
        target,
        False,
        images,
        image_bytes,
        config.batch_size,
        config.model,
        str(config.device),
        config.threads,
        fits=images * image_bytes < 0.8 * usable_memory(),
        dtype=store.dtype.name,
        codec="raw" if store.metadata.sizes is None else "jpeg",
        free_bytes=shutil.disk_usage(".").free,
        remote_files=remote_file_system(target),
    )


def _threads(config: ProfileConfig) -> str:
    return f"{config.threads} thread{'s' * (config.threads != 1)}"


def _memory(config: ProfileConfig, store: Store) -> Part:
    config.progress("copying memory")
    height, width = rows.image_size(config, store)
    image_bytes = store.row_bytes if store.metadata.sizes is None else store.channels * height * width
    return Part("memory", "memory copy", parts.memory_copy_rate(image_bytes, config.threads, config.scaled(0.5)))


def _measure_loading(
    config: ProfileConfig, store: Store, results: ProfileResults, times: LoadingTimes, step: TrainingStep | None
) -> LoopResult:
    """Adds the parts of loading from a store to the results, and measures the loop over the store."""
    max_rows = max(2 * config.batch_size, SAMPLE_BYTES // (store.row_bytes * store.variants))
    chosen = np.arange(len(store)) if len(store) <= max_rows else _sample_rows(len(store), max_rows)
    config.progress("reading rows, after dropping them from the page cache")
    ranges = parts.row_ranges(store, chosen.tolist())
    cold, warm, read = parts.read_rates(ranges, config.scaled(times.disk), config.threads)
    chosen = chosen[: max(read, min(2 * config.batch_size, len(chosen)))]
    config.progress("gathering")
    options = _scale(store) | rows.decode_options(config, store)
    gather_rate = parts.gather_rate(store, chosen.tolist(), config.batch_size, options, config.scaled(0.7))
    results.parts += [
        Part("disk", "rows from disk, cold", cold),
        Part("cache", "rows from the page cache", warm),
        Part(
            "gather", "gather: decode, centre crop" if store.metadata.sizes else "gather, no augmentation", gather_rate
        ),
    ]
    with _loader(config, store, chosen) as loader:
        return _measure_loops(config, loader, results, times, step)


def _measure_loops(
    config: ProfileConfig, loader: Loader, results: ProfileResults, times: LoadingTimes, step: TrainingStep | None
) -> LoopResult:
    """The loader alone, the step alone, and both together."""
    config.progress("the loader alone")
    warmup = min(WARMUP, max(0, len(loader) - 2))
    plan = MeasurementPlan(config.scaled(times.loader), warmup, 2)
    alone = plan.measure(lambda: loader, NoWork(), config.batch_size, results.images)
    results.parts.append(Part("loader", f"Loader alone, {_threads(config)}", alone.images_per_s))
    if step is None:
        return loop_result("an epoch of the Loader", alone)
    config.progress(f"{config.model} alone")
    batch = next(iter(loader))
    rate = with_short_errors(lambda: step.images_per_s(batch, config.scaled(times.step)))
    config.progress(f"{config.model} with the Loader")
    plan = MeasurementPlan(config.scaled(times.loop), warmup, 2).with_workload(step, alone.batch_seconds)
    both = plan.measure(lambda: loader, step, config.batch_size, results.images)
    packed = loop_result("an epoch, packed", both)
    # a loop can't be faster than its step; if it seems so, the measurement of the step alone was too short
    rate = max(rate, packed.images_per_s, results.baseline.images_per_s if results.baseline else 0.0)
    results.parts.append(Part("step", f"training step of {config.model}, {config.device}", rate))
    return packed


def _sample_rows(count: int, max_rows: int) -> Any:
    """Sorted random rows, drawn independently, as a permutation of all rows would need memory for every row."""
    return np.unique(np.random.default_rng(0).integers(0, count, max_rows))


def _scale(store: Store) -> dict[str, Any]:
    return normalization(store) if store.metadata.sizes is None else rows.imagenet_scale(store)


def _loader(config: ProfileConfig, store: Store, chosen: Any) -> Loader:
    has_classes = "label" in store.fields and _classes(store) is not None
    return Loader(
        store,
        config.batch_size,
        shuffle=True,
        indices=chosen,
        augment=training_augment(store, rows.image_size(config, store)),
        device=config.device,
        threads=config.threads,
        fields=("label",) if has_classes else (),
        # BatchNorm can't train on a batch of one image
        drop_last=len(chosen) > config.batch_size and len(chosen) % config.batch_size == 1,
        **_scale(store),
    )


def _classes(store: Store) -> int | None:
    try:
        return number_of_classes(store)
    except ArgumentError:
        return None  # without classes nothing can be learned, but the speed can be measured


def _training_step(config: ProfileConfig, store: Store) -> TrainingStep | None:
    if config.make_model is None:
        return None
    size = rows.image_size(config, store)
    return TrainingStep(config.make_model(_classes(store) or 1000, store, size), config.device)
