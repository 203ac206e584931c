"""Checks everything about a pack, and plans it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from largeds_native._internal.arrays import PNG_DTYPES, has_shape_of
from largeds_native._internal.urls import is_url, local_path
from largeds_native.errors import ArgumentError, PackError, StorageError
from largeds_native.packing.failures import checked_max_failures
from largeds_native.packing.kept_values import COLOURS, fitted
from largeds_native.packing.mirror import Mirror
from largeds_native.packing.options import PackOptions
from largeds_native.packing.pack_plan import PackSettings, Plan
from largeds_native.packing.resume import begin, check_apart, check_output, check_url_apart, is_store
from largeds_native.packing.size import row_size
from largeds_native.packing.store_source import source_of
from largeds_native.sources import IndexedSource, ShuffledSource, Source
from largeds_native.sources.classes import with_classes


def checked_plan(
    source: Any,
    out: str | os.PathLike[str],
    *,
    classes: Any,
    masks: Any,
    pictures: Any,
    ignore: int | None,
    threads: int | None,
    on_error: str,
    max_failures: int | float,
    resume: bool,
    key: str | None,
    **options: Any,
) -> Plan:
    """From the arguments of `pack`: checks them, and prepares the output folder."""
    chosen = PackOptions.checked(**options)
    samples = with_classes(source_of(source, chosen.transform.exif_orientation, masks, ignore, pictures), classes)
    settings = _settings(threads, on_error, max_failures)
    if key is not None and (not isinstance(key, str) or not key):
        raise ArgumentError(f"key: expected a text that names the data, or None, found {key!r}")
    place = Mirror(str(out)) if is_url(out) else Path(os.path.abspath(local_path(out)))
    if isinstance(place, Mirror):
        check_url_apart(place.url, samples)
        place.pull()
    else:
        check_output(place)
        check_apart(place, samples)
    plan = make_plan(samples, place, chosen, key, settings)
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
        with plan.naming():
            _begin(plan, resume)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(error.errno, f"{plan.where} can't be written to: {error.strerror}") from error
    return plan


def _begin(plan: Plan, resume: bool) -> None:
    try:
        begin(plan, resume)
    except FileNotFoundError:
        if not is_store(plan.out):
            raise
        begin(plan, resume)  # another process finished the store meanwhile, and removed what we were writing


def _settings(threads: Any, on_error: str, max_failures: Any) -> PackSettings:
    if on_error not in ("skip", "raise"):
        raise ArgumentError(f"on_error: expected 'skip' or 'raise', found {on_error!r}")
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= 1024):
        raise ArgumentError(f"threads: expected a whole number from 1 to 1024, found {threads!r}")
    return PackSettings(threads, on_error == "raise", checked_max_failures(max_failures))


def make_plan(
    source: Source, place: Path | Mirror, options: PackOptions, key: str | None, settings: PackSettings
) -> Plan:
    """Plans the pack. Raises early if there is no image, or the augmentation does not fit the images."""
    if source.count == 0:
        raise PackError(f"{source.description} has no image")
    options = fitted(options, source)
    if options.shuffle is not None:
        if not isinstance(source, IndexedSource):
            raise ArgumentError(f"shuffle: expected a source that can be read in any order, found {source.description}")
        source = ShuffledSource(source, options.shuffle)
    size = (0, 0) if options.codec == "jpeg" else row_size(source, options)
    plan = Plan(source, place, options, size, library_versions(), key, settings)
    plan.metadata("")  # raises if the augmentation does not fit
    _check_fields(plan)
    _check_pictures(plan)
    return plan


def library_versions() -> dict[str, str]:
    """Versions of the libraries whose version may change pixels."""
    import PIL

    from largeds_native import _C

    return {**_C.codec_versions(), "pillow": PIL.__version__}


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
