"""The classes of several stores under one numbering."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from largeds_native._internal.arrays import Array
from largeds_native.errors import ArgumentError, StoreError

if TYPE_CHECKING:
    from largeds_native.store.base import Store

HOW = ("match", "offset")
MAX_CLASSES = 1 << 24  # without names, where the largest label says how many there are


@dataclass(frozen=True)
class JoinedClasses:
    """names: of all classes. numbers: for each store, None where its labels stay as they are; else its label l is
    number `numbers[l]` of the joined classes. Negative labels, which belong to no class, stay."""

    names: tuple[str, ...]
    numbers: tuple[Array | None, ...]


def join_classes(stores: Sequence[Store], how: str) -> JoinedClasses:
    """By name ("match"), or those of each store after those of the one before ("offset"). Raises ArgumentError where
    that is not clear, or the new numbers don't fit into the labels' dtype."""
    if how not in HOW:
        raise ArgumentError(f"classes: expected one of {', '.join(map(repr, HOW))}, found {how!r}")
    joined = _match(stores) if how == "match" else _offset(stores)
    for store, numbers in zip(stores, joined.numbers, strict=True):
        if numbers is not None:
            _check_labels(store, numbers)
    return joined


def renumbered(labels: Array, numbers: Array, where: object) -> Array:
    """The labels under the joined numbering, in memory. StoreError, which begins with `where`, for a label that is no
    class's number."""
    out = np.array(labels)
    known = np.flatnonzero(out >= 0)
    beyond = known[out[known] >= len(numbers)]
    if len(beyond):
        raise StoreError(f"{where}, row {beyond[0]}: label {out[beyond[0]]} is no number of its {len(numbers)} classes")
    out[known] = numbers[out[known]]
    return out


def has_class_numbers(store: Store) -> bool:
    """Whether the labels are integers, one a row."""
    label = store.metadata.fields.get("label")
    return label is not None and label.shape == () and label.dtype.kind in "iu"


def _match(stores: Sequence[Store]) -> JoinedClasses:
    _check_names(stores)
    names = tuple(dict.fromkeys(name for store in stores for name in store.classes))
    number = {name: i for i, name in enumerate(names)}
    numbers = [np.array([number[name] for name in store.classes], np.int64) for store in stores]
    same = [np.array_equal(own, np.arange(len(own))) for own in numbers]
    return JoinedClasses(names, tuple(None if stay else own for stay, own in zip(same, numbers, strict=True)))


def _check_names(stores: Sequence[Store]) -> None:
    """Raises ArgumentError unless the names say which classes of two stores are the same."""
    for store in stores:
        twice = [name for i, name in enumerate(store.classes) if name in store.classes[:i]] if store.classes else []
        if twice:
            raise ArgumentError(f"classes: {store.path} has two classes named {twice[0]!r}, so names can't match")
    numbered = [store for store in stores if len(store) and "label" in store.fields and _only_numbers(store)]
    named = [store for store in stores if not _only_numbers(store)]
    if not numbered or not named:
        return
    known = {name for store in named for name in store.classes}
    for store in numbered:
        if not store.classes or not known.issuperset(store.classes):
            raise ArgumentError(
                f"classes: the classes of {store.path} have only numbers, and those of {named[0].path} have names "
                f"({', '.join(named[0].classes[:3])}, ...), so it is not known which are the same: name them "
                "(lds.pack(..., classes=[...])), or pass classes='offset' if they are different ones"
            )


def _only_numbers(store: Store) -> bool:
    """Whether the classes have no names, or those that `pack` gives where there are none: "0", "1", ..."""
    return store.classes == [str(i) for i in range(len(store.classes))]


def _offset(stores: Sequence[Store]) -> JoinedClasses:
    for store in stores:
        if not has_class_numbers(store):
            raise ArgumentError(f"classes='offset': {store.path} has no class numbers: expected a field label of ints")
    counts = [len(store.classes) or _count_classes(store) for store in stores]
    starts = np.cumsum([0, *counts]).tolist()
    numbers = tuple(np.arange(start, start + n) for start, n in zip(starts, counts, strict=False))
    return JoinedClasses(_names_apart(stores, counts), numbers)


def _count_classes(store: Store) -> int:
    """One more than the largest label. Reads all labels."""
    labels = np.asarray(store.field("label")[:])
    largest = int(labels.max()) if len(labels) else -1
    if largest >= MAX_CLASSES:
        raise ArgumentError(f"classes='offset': expected class numbers in {store.path}, found label {largest:,}")
    return max(largest + 1, 0)


def _names_apart(stores: Sequence[Store], counts: Sequence[int]) -> tuple[str, ...]:
    """The names of all classes; where one comes twice, or a class has none, it begins with its store's name."""
    if not any(store.classes for store in stores):
        return ()
    own = [store.classes or [str(i) for i in range(n)] for store, n in zip(stores, counts, strict=True)]
    flat = [name for names in own for name in names]
    if len(set(flat)) == len(flat) and all(store.classes for store in stores):
        return tuple(flat)
    titles = store_titles(stores)
    often = {name for name, count in zip(*np.unique(flat, return_counts=True), strict=True) if count > 1}
    return tuple(
        f"{title}/{name}" if name in often or not store.classes else name
        for store, title, names in zip(stores, titles, own, strict=True)
        for name in names
    )


def store_titles(stores: Sequence[Store]) -> list[str]:
    """A name for each store, no two the same: of its folder, else its path, else with its number."""
    for titles in ([store.path.name for store in stores], [str(store.path) for store in stores]):
        if len(set(titles)) == len(titles):
            return titles
    return [f"{store.path} ({i})" for i, store in enumerate(stores)]


def _check_labels(store: Store, numbers: Array) -> None:
    """Raises ArgumentError unless the labels of a store can have these numbers."""
    if "label" not in store.fields or not len(store):
        return
    label = store.metadata.fields["label"]
    if not has_class_numbers(store):
        raise ArgumentError(
            f"classes: the labels of {store.path} are {label.dtype} of shape {label.shape}, which can't be renumbered "
            "by their classes: pack all stores with the same classes="
        )
    most = np.iinfo(label.dtype).max
    if len(numbers) and numbers.max() > most:
        raise ArgumentError(
            f"classes: the labels of {store.path} are {label.dtype}, up to {most}, and the joined classes go up to "
            f"{numbers.max()}: pack it with int64 labels"
        )
