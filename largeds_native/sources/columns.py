"""Columns of a table -> labels and fields, as numpy arrays."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from largeds_native._internal.arrays import Array, is_field_name
from largeds_native.errors import ArgumentError
from largeds_native.sources.classes import checked_labels


def choose(names: Sequence[str], given: str | None, known: Sequence[str], argument: str, where: str) -> str | None:
    """The column that was named, or the one that has a usual name: the first of `known`, or else any single one."""
    if given is not None:
        if given not in names:
            raise ArgumentError(f"{where}: expected a column {given!r}, found {', '.join(names)}")
        return given
    found = [name for name in known if name in names]
    if len(found) > 1 and found[0] != known[0]:
        raise ArgumentError(
            f"{where}: columns {', '.join(map(repr, found))} may be meant: say {argument}={found[0]!r}, or --{argument}"
        )
    return found[0] if found else None


def plain(column: Any) -> Any:
    """The column with its values in place of numbers of a dictionary (pandas' categories)."""
    import pyarrow as pa

    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_list(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def is_number(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def check_complete(column: Any, where: str, name: str) -> None:
    """Raises ArgumentError naming the first line without a value: null, NaN, or a text of nothing but spaces."""
    import pyarrow.compute as pc

    missing = pc.is_null(column, nan_is_null=True)
    if is_text(column.type):
        missing = pc.or_kleene(missing, pc.equal(pc.utf8_trim_whitespace(column), ""))
    first = pc.index(missing, True).as_py()
    if first >= 0:
        raise ArgumentError(
            f"{where}: line {first + 1} of the data: column {name!r} has no value: give it one, or remove the line"
        )


def label_values(column: Any, where: str, name: str) -> tuple[Array, tuple[str, ...]]:
    """Labels and the names of their classes: whole numbers, names (numbered in sorted order, without spaces around
    them), or a list of numbers for each image, all of one length."""
    import pyarrow as pa
    import pyarrow.compute as pc

    check_complete(column, where, name)
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return checked_labels(column.to_numpy(), f"{where}: column {name!r}"), ()
    if is_text(kind):
        texts = pc.utf8_trim_whitespace(column)  # so that " cat" and "cat" are one class
        classes, labels = np.unique(texts.to_numpy().astype(str), return_inverse=True)
        return labels.astype(np.int64), tuple(classes.tolist())
    if is_list(kind):
        values = list_values(column)
        if values is not None:
            return values, ()
        raise ArgumentError(
            f"{where}: column {name!r}: expected lists of one length, as a number for each class, found {kind} of "
            "several lengths, or no numbers"
        )
    raise ArgumentError(
        f"{where}: column {name!r}: expected whole numbers or class names, found {kind}; numbers to predict are a "
        "field: give the column another name, and Loader fields=(that name,)"
    )


def list_values(column: Any) -> Array | None:
    """(N, length) of lists of numbers; None where their lengths differ or a value is missing."""
    import pyarrow.compute as pc

    lengths = pc.unique(pc.list_value_length(column)).to_pylist()
    if (
        not is_number(column.type.value_type)
        or len(lengths) != 1
        or not lengths[0]
        or pc.list_flatten(column).null_count
    ):
        return None
    return little_endian(pc.list_flatten(column).to_numpy().reshape(len(column), lengths[0]))


def number_values(column: Any) -> Array | None:
    """Of a column that is no label; a missing number is NaN. None for a column that holds no numbers."""
    import pyarrow as pa

    if is_list(column.type):
        return list_values(column)
    if not is_number(column.type):
        return None
    return little_endian((column.cast(pa.float64()) if column.null_count else column).to_numpy())


def little_endian(values: Array) -> Array:
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<"))


def field_name(column: str) -> str | None:
    """The field that a column becomes: other signs than letters, digits, '_' and '-' are '_'. None for a nameless one,
    as pandas writes its index."""
    if not column.strip() or column.startswith("Unnamed:") or re.fullmatch(r"__index_level_\d+__", column):
        return None
    name = re.sub(r"[^A-Za-z0-9_-]", "_", column.strip())
    return name if is_field_name(name) else None
