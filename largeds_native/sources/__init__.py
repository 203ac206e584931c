"""Where images come from. Each source yields its samples in a fixed order, in batches that fit in memory."""

from __future__ import annotations

from largeds_native.sources.arrays import arrays
from largeds_native.sources.base import Batch, FailedItem, IndexedSource, Item, Shuffled, Source
from largeds_native.sources.folder import folder
from largeds_native.sources.resolve import as_source
from largeds_native.sources.samples import dataset, encoded, hugging_face
from largeds_native.sources.table import table
from largeds_native.sources.tar import tar

__all__ = [
    "Batch",
    "FailedItem",
    "IndexedSource",
    "Item",
    "Shuffled",
    "Source",
    "arrays",
    "as_source",
    "dataset",
    "encoded",
    "folder",
    "hugging_face",
    "table",
    "tar",
]
