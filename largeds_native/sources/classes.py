"""Labels numbered by classes that the user names, as those of another store."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from largeds_native._internal.arrays import Array, FieldSpec
from largeds_native.errors import ArgumentError
from largeds_native.sources.base import LABEL, FailedItem, IndexedSource, Indices, Source, SourceBatch


def with_classes(source: Source, classes: Any) -> Source:
    """The same samples, their labels numbered by `classes`: names, or a store (or anything else) that has `.classes`.
    None changes nothing. Labels that are numbers already stay, and get these names.

    Raises ArgumentError where the source has a class that is not among them, or no labels at all.
    """
    _check_distinct(source)
    if classes is None:
        return source
    numbering = _Numbering(source, class_names(classes))
    return (
        _IndexedRenumbered(source, numbering) if isinstance(source, IndexedSource) else _Renumbered(source, numbering)
    )


def class_names(classes: Any) -> tuple[str, ...]:
    found = getattr(classes, "classes", classes)
    names = tuple(found) if isinstance(found, (list, tuple)) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise ArgumentError(f"classes: expected names, or a store that has classes, found {str(classes)[:80]!r}")
    if len(set(names)) != len(names):
        raise ArgumentError("classes: expected each name once, found one twice")
    return names


def optional_names(classes: Any) -> tuple[str, ...]:
    """As `class_names`; none for None, and for an empty list."""
    return () if classes is None or (isinstance(classes, (list, tuple)) and not classes) else class_names(classes)


def _check_distinct(source: Source) -> None:
    for name, count in Counter(source.classes).items():
        if count > 1:
            raise ArgumentError(
                f"{source.description}: expected each class once, found {count} named {name!r}: give each its own name"
            )


def check_labels(batch: SourceBatch, count: int, description: str) -> None:
    """Raises ArgumentError for a label that is not the number of one of `count` classes."""
    labels = batch.fields["label"]
    outside = np.flatnonzero((labels < 0) | (labels >= count)).tolist()
    wrong = [i for i in outside if not isinstance(batch.items[i], FailedItem)]
    if wrong:
        label = labels[wrong[0]]
        way = (
            "name every class in classes=[...]" if label >= 0 else "0 is the lowest; leave samples without a label out"
        )
        raise ArgumentError(
            f"{batch.names[wrong[0]]} of {description}: expected a label below {count}, the number of classes, found "
            f"{label}: {way}"
        )


def checked_labels(values: Array, where: str) -> Array:
    """As int64. Raises ArgumentError for a number that does not fit."""
    if values.dtype.kind == "u" and len(values) and int(values.max()) >= 1 << 63:
        at = int(np.argmax(values >= np.uint64(1 << 63)))
        raise ArgumentError(f"{where}: expected labels below 2**63, found {values[at]} at index {at}")
    return values.astype(np.int64)


class _Numbering:
    """From a source's numbers to those of the classes that were named."""

    def __init__(self, source: Source, names: tuple[str, ...]) -> None:
        self.names, self._description = names, source.description
        if source.fields.get("label") != LABEL:
            raise ArgumentError(f"classes: {source.description} has no labels that could be numbered")
        index = {name: i for i, name in enumerate(names)}
        for name in source.classes:
            if name not in index:
                known = ", ".join(names)
                raise ArgumentError(
                    f"classes: {source.description} has the class {name!r}, expected one of {known:.200}"
                )
        self._numbers = np.array([index[name] for name in source.classes], np.int64)

    def renumber(self, batch: SourceBatch) -> SourceBatch:
        labels = batch.fields["label"]
        check_labels(batch, len(self._numbers) or len(self.names), self._description)
        if len(self._numbers):
            labels = self._numbers[labels]
        return replace(batch, fields={**batch.fields, "label": labels})


class _Renumbered(Source):
    def __init__(self, source: Source, numbering: _Numbering) -> None:
        self._source, self._numbering = source, numbering
        self._describe_as(source)
        self.classes = numbering.names

    @property
    def fields(self) -> dict[str, FieldSpec]:
        return self._source.fields

    @property
    def pictures(self) -> dict[str, FieldSpec]:
        return self._source.pictures

    @property
    def count(self) -> int | None:
        return self._source.count

    def read(self, start: int, stop: int) -> Iterator[SourceBatch]:
        return map(self._numbering.renumber, self._source.read(start, stop))

    def changed_since(self, start: int, stop: int, time_ns: int) -> list[str]:
        return self._source.changed_since(start, stop, time_ns)

    def files_state(self) -> str:
        return self._source.files_state()

    def fingerprint(self) -> str | None:
        inner = self._source.fingerprint()
        return None if inner is None else hashlib.sha256(repr((inner, self.classes)).encode()).hexdigest()


class _IndexedRenumbered(_Renumbered, IndexedSource):
    _source: IndexedSource

    def __init__(self, source: IndexedSource, numbering: _Numbering) -> None:
        super().__init__(source, numbering)
        self.batch = source.batch

    @property
    def count(self) -> int:
        return self._source.count

    def take(self, indices: Indices) -> SourceBatch:
        return self._numbering.renumber(self._source.take(indices))

    def paths(self, indices: Indices) -> list[tuple[str, str]]:
        return self._source.paths(indices)
