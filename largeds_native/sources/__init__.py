"""Sources of images. Each yields its samples in a fixed order, in batches that fit into memory."""

from __future__ import annotations

from largeds_native.sources.arrays import arrays
from largeds_native.sources.base import FailedItem, IndexedSource, Item, ShuffledSource, Source, SourceBatch
from largeds_native.sources.datasets import dataset, encoded, hugging_face
from largeds_native.sources.folder import folder
from largeds_native.sources.resolve import as_source
from largeds_native.sources.table import table
from largeds_native.sources.tar import tar

__all__ = [
    "FailedItem",
    "IndexedSource",
    "Item",
    "ShuffledSource",
    "Source",
    "SourceBatch",
    "arrays",
    "as_source",
    "dataset",
    "encoded",
    "folder",
    "hugging_face",
    "table",
    "tar",
]
