"""Finds the common (height, width) of all rows before augmentation."""

from __future__ import annotations

import itertools

import numpy as np

from largeds_native.errors import DecodeError, PackError
from largeds_native.packing import pillow
from largeds_native.packing.options import PackOptions
from largeds_native.sources import FailedItem, IndexedSource, Item, Source
from largeds_native.sources.base import read_bytes

PROBES = 1000


def row_size(source: Source, options: PackOptions) -> tuple[int, int]:
    """From the options if they determine it, else from the first image that can be decoded."""
    transform = options.transform
    size = transform.fixed_size
    if size is not None:
        return size
    first = ""
    limit = PROBES if source.count is None else min(PROBES, source.count)
    seen = 0
    # one by one where that is possible: a Dataset may take long for each
    batches = (
        (source.read(i, i + 1) for i in range(limit)) if isinstance(source, IndexedSource) else [source.read(0, limit)]
    )
    for batch in itertools.chain.from_iterable(batches):
        for item, name in zip(batch.items, batch.names, strict=True):
            try:
                height, width = _size(item, options)
            except (DecodeError, OSError) as error:
                first = first or f"{name}: {error}"
                continue
            return transform.output_size(height, width)
        seen += len(batch.items)
    raise PackError(f"none of the first {seen:,} images can be decoded; the first: {first or 'none'}")


def _size(item: Item, options: PackOptions) -> tuple[int, int]:
    transform = options.transform
    if isinstance(item, np.ndarray):
        return int(item.shape[0]), int(item.shape[1])
    if isinstance(item, FailedItem):
        raise DecodeError(item.message)
    from largeds_native import _C

    if options.values is not None:
        values = pillow.values(item, transform)
        return int(values.shape[0]), int(values.shape[1])
    data = read_bytes(item)
    try:
        pixels = _C.decode_image(
            data,
            channels=transform.channels,
            exif_orientation=transform.exif_orientation,
            keep_truncated=transform.truncated == "keep",
            max_pixels=transform.max_pixels,
        )
    except DecodeError:
        pixels = pillow.decode(data, transform)
    return int(pixels.shape[0]), int(pixels.shape[1])
