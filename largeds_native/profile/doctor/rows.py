"""Measures both kinds of rows, raw and JPEG, so that the summary can recommend one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from largeds_native._internal.machine import usable_memory
from largeds_native.loading import Loader
from largeds_native.packing import pack
from largeds_native.profile.classifier import input_size, training_augment, validation_augment
from largeds_native.profile.doctor.config import ProfileConfig
from largeds_native.profile.doctor.measurement_plan import MeasurementPlan
from largeds_native.profile.doctor.packed_sample import Subset
from largeds_native.profile.doctor.results import Codec, ProfileResults, RowsRate
from largeds_native.profile.doctor.workload import NoWork
from largeds_native.profile.peers import MEAN, STD
from largeds_native.sources import arrays
from largeds_native.sources.base import IndexedSource
from largeds_native.store import JpegStore

if TYPE_CHECKING:
    from largeds_native.store import Store

SAMPLE_IMAGES = 1000  # that are decoded or packed to measure the other kind of rows
SAMPLE_BYTES = 160 << 20  # of raw rows
WARMUP = 4  # batches


def image_size(config: ProfileConfig, store: Store) -> tuple[int, int]:
    """(height, width) of the images that the loader gives: those of raw rows, or --crop of JPEG rows."""
    crop: Any = 224 if config.crop is None else config.crop
    height, width = (crop, crop) if isinstance(crop, int) else crop
    return input_size(store, (height, width))


def decode_options(config: ProfileConfig, store: Store) -> dict[str, Any]:
    """The arguments of `Store.gather` for images of one size, without a random crop."""
    augment = validation_augment(store, image_size(config, store))
    return {} if augment is None else {"resize": augment.resize, "crop": augment.center_crop}


def imagenet_scale(store: Store) -> dict[str, Any]:
    """ImageNet's mean and std: the speed does not depend on their values, and those of JPEG rows take some time."""
    return {"mean": MEAN[: store.channels], "std": STD[: store.channels]}


def measure_rows_of_store(
    config: ProfileConfig, store: JpegStore, rows: Sequence[int], results: ProfileResults
) -> None:
    """Adds both kinds of rows to the results of a JPEG store: a sample of it is decoded, and packed as raw rows."""
    config.progress("packing raw rows, for comparison")
    size = image_size(config, store)
    count = min(len(rows), SAMPLE_IMAGES, max(1, SAMPLE_BYTES // (store.channels * size[0] * size[1])))
    with ExitStack() as stack:
        folder = _temporary(stack)
        images = store.gather(rows[:count], **decode_options(config, store), threads=config.threads)
        sizes: dict[str, Any] = {"resize": None, "crop": None, "mode": "RGB" if store.channels == 3 else "L"}
        raw = pack(arrays(images), folder / "raw.lds", progress=False, threads=config.threads, **sizes)
        stack.callback(raw.close)
        _add_measured(results, "jpeg", store.row_bytes)
        _add_other(results, "raw", raw.row_bytes, _loader_rate(config, raw, size))


def measure_rows_of_source(
    config: ProfileConfig, source: IndexedSource, sample: Any, raw: Store, results: ProfileResults
) -> None:
    """Adds both kinds of rows to the results of a source, of which a sample is packed as JPEG rows."""
    config.progress("packing JPEG rows, for comparison")
    with ExitStack() as stack:
        folder, resize = _temporary(stack), config.resize if isinstance(config.resize, int) else None
        jpeg = pack(
            Subset(source, sample[:SAMPLE_IMAGES]),
            folder / "jpeg.lds",
            codec="jpeg",
            resize=resize,
            threads=config.threads,
            max_failures=1.0,
            progress=False,
        )
        stack.callback(jpeg.close)
        _add_measured(results, "raw", raw.row_bytes)
        _add_other(results, "jpeg", jpeg.row_bytes, _loader_rate(config, jpeg, raw.image_size))


def _temporary(stack: ExitStack) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="largeds-doctor-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _add_measured(results: ProfileResults, codec: Codec, row_bytes: int) -> None:
    """Adds the kind of rows that the parts were measured on."""
    disk, loader = (next(p.images_per_s for p in results.parts if p.kind == kind) for kind in ("disk", "loader"))
    has_room = results.is_store or _has_room(results, row_bytes)
    results.rows.append(RowsRate(codec, row_bytes, loader, disk, _fits(results, row_bytes), has_room))


def _add_other(results: ProfileResults, codec: Codec, row_bytes: int, loader: float) -> None:
    """Adds the other kind of rows, as if the disk gave the same bytes a second."""
    measured = results.rows[0]
    disk = measured.disk * measured.image_bytes / row_bytes
    fits, has_room = _fits(results, row_bytes), _has_room(results, row_bytes)
    results.rows.append(RowsRate(codec, row_bytes, loader, disk, fits, has_room))


def _has_room(results: ProfileResults, row_bytes: int) -> bool:
    return results.images * row_bytes < results.free_bytes


def _fits(results: ProfileResults, row_bytes: int) -> bool:
    return results.images * row_bytes < 0.8 * usable_memory()


def _loader_rate(config: ProfileConfig, store: Store, size: tuple[int, int]) -> float:
    """Images/s of the Loader alone, of images of this size."""
    augment = training_augment(store, size)
    kwargs: dict[str, Any] = imagenet_scale(store) | {"threads": config.threads, "device": config.device, "fields": ()}
    indices = np.resize(np.arange(len(store)), max(len(store), 4 * config.batch_size))  # more than one batch
    with Loader(store, config.batch_size, shuffle=True, indices=indices, augment=augment, **kwargs) as loader:
        plan = MeasurementPlan(config.scaled(1.5), min(WARMUP, max(0, len(loader) - 2)), 2)
        return plan.measure(lambda: loader, NoWork(), config.batch_size, len(indices)).images_per_s
