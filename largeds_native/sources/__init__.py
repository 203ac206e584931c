"""Where images come from. Each source yields its samples in a fixed order, in batches that fit in memory."""

from __future__ import annotations

from largeds_native.sources.arrays import arrays
from largeds_native.sources.base import Batch, Item, Source, as_source
from largeds_native.sources.folder import folder

__all__ = ["Batch", "Item", "Source", "arrays", "as_source", "folder"]
