"""Names for classes that only have numbers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from largeds_native.store.format.shard_record import ShardRecord
from largeds_native.store.metadata import Metadata

MOST = 1 << 16  # a higher label is no class's number


def numbered_classes(folder: Path, records: Iterable[ShardRecord], metadata: Metadata) -> tuple[str, ...]:
    """The names of the classes; "0", "1", ... up to the highest label where the source has names for none, so that
    `len(store.classes)` is the number of a model's outputs. None where labels are no numbers of classes."""
    label = metadata.fields.get("label")
    if metadata.classes or label is None or label.shape or label.dtype.kind not in "iu":
        return metadata.classes
    highest = -1
    for record in records:
        labels = np.load(folder / record.name / "label.npy", mmap_mode="r")
        if len(labels) and labels.min() < 0:
            return ()
        highest = max(highest, int(labels.max(initial=-1)))
    return tuple(map(str, range(highest + 1))) if highest < MOST else ()
