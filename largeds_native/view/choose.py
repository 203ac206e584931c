"""Chooses the images of a store that are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from largeds_native.errors import ArgumentError, RowIndexError
from largeds_native.store.display import caption
from largeds_native.view.tiles import printable

if TYPE_CHECKING:
    from largeds_native.store import Store

CLASSES_NAMED = 10  # in an error message


def of_all(store: Store, count: int) -> list[int]:
    """`count` rows at equal distances, so that a store sorted by class shows images of all classes."""
    return evenly_spaced(np.arange(len(store)), count)


def evenly_spaced(rows: np.ndarray[Any, np.dtype[np.int64]], count: int) -> list[int]:
    positions = np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(np.int64)
    return [int(row) for row in rows[positions]]


def of_rows(store: Store, rows: Sequence[int], count: int) -> list[int]:
    for row in rows:
        if row >= len(store):
            raise RowIndexError(f"--rows: expected row numbers from 0 to {len(store) - 1}, found {row}")
    return list(rows[:count])


def of_classes(store: Store, names: Sequence[str], count: int) -> list[int]:
    """An equal number of rows of each class; classes are given by name, or by number if no class has this name."""
    if "label" not in store.fields or len(store["label"].shape) != 1 or store["label"].dtype.kind not in "iu":
        raise ArgumentError(f"{store.path} has no class numbers: expected a field label of integers")
    labels = np.asarray(store["label"][:])
    found: list[int] = []
    for i, name in enumerate(names):
        rows = np.flatnonzero(labels == _number_of(store, name))
        share = (count - len(found)) // (len(names) - i)
        found += evenly_spaced(rows, share)
    return found


def _number_of(store: Store, name: str) -> int:
    if name in store.classes:
        return store.classes.index(name)
    if name.isdecimal() and (not store.classes or int(name) < len(store.classes)):
        return int(name)
    known = ", ".join(printable(known) for known in store.classes[:CLASSES_NAMED]) or "none named"
    more = len(store.classes) - CLASSES_NAMED
    raise ArgumentError(
        f"--class: {store.path} has no class {name!r}; its classes are: {known}{f' and {more} more' * (more > 0)}"
    )


def label_of(store: Store, row: int) -> str:
    """The class name, or the label as text; "" without labels."""
    return printable(caption(store["label"][row], store.classes)) if "label" in store.fields else ""
