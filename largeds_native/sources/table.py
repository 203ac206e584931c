"""Images listed in a CSV or Parquet manifest."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from largeds_native._internal.arrays import Array, FieldSpec, check_field_name
from largeds_native.errors import ArgumentError, StorageError
from largeds_native.sources.base import LABEL, IndexedSource, Indices, Source, SourceBatch


def table(
    path: str | os.PathLike[str],
    *,
    image: str = "path",
    label: str = "label",
    root: str | os.PathLike[str] | None = None,
    outside: bool = False,
) -> Source:
    """A source from a CSV file (with a header line) or Parquet file with one line per image.

    Column `image` holds the path of the image, relative to `root` (default: the manifest's folder). Column `label`, if
    it exists, holds whole numbers or class names, which are numbered in sorted order. Every other column of numbers
    becomes a field. Paths that are absolute or leave `root` by '..' are refused unless `outside` is True.

    Raises ArgumentError for an invalid file; the message names the column or the line.
    """
    return TableSource(Path(path), image, label, root, outside)


class TableSource(IndexedSource):
    def __init__(self, path: Path, image: str, label: str, root: Any, outside: bool) -> None:
        columns = _read(path)
        self.root = self._top = os.path.abspath(path.parent if root is None else root)
        self.description = f"manifest {os.path.abspath(path)}"
        if image not in columns.column_names:
            raise ArgumentError(f"{path}: expected a column {image!r}, found {', '.join(columns.column_names)}")
        self._names = _names(columns[image], path, image, outside)
        self._values: dict[str, Array] = {}
        for name in columns.column_names:
            if name == label:
                self._values["label"], self.classes = _labels(columns[name], path, name)
            elif name != image and (values := _numbers(columns[name], path, name)) is not None:
                self._values[name] = values

    @property
    def fields(self) -> dict[str, FieldSpec]:
        return {name: LABEL if name == "label" else FieldSpec(v.dtype) for name, v in self._values.items()}

    @property
    def count(self) -> int:
        return len(self._names)

    def take(self, indices: Indices) -> SourceBatch:
        names = [str(name) for name in self._names.take(indices).to_pylist()]
        fields = {name: values[indices] for name, values in self._values.items()}
        return SourceBatch([os.path.join(self._top, name) for name in names], names, fields)

    def paths(self, indices: Indices) -> list[tuple[str, str]]:
        batch = self.take(indices)
        return [(name, str(item)) for name, item in zip(batch.names, batch.items, strict=True)]

    def fingerprint(self) -> str:
        digest = hashlib.sha256(repr((self.classes, sorted(self._values))).encode())
        for start in range(0, self.count, 1 << 16):
            digest.update("\0".join(self._names.slice(start, 1 << 16).to_pylist()).encode())
        for _, values in sorted(self._values.items()):
            digest.update(values.tobytes())
        return digest.hexdigest()


def _read(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    try:
        if path.suffix.lower() == ".parquet":
            return pq.read_table(path, partitioning=None)
        return pyarrow.csv.read_csv(path)
    except pa.ArrowException as error:
        raise ArgumentError(f"{path} can't be read as a manifest: {str(error)[:200]}") from None
    except OSError as error:
        raise StorageError(error.errno, f"{path}: {error.strerror or error}") from error


def _names(column: Any, path: Path, name: str, outside: bool) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise ArgumentError(f"{path}: column {name!r}: expected paths, found {column.type}")
    _no_missing(column, path, name)
    if not outside:
        hostile = pc.match_substring_regex(column, r"^/|(^|/)\.\.(/|$)")
        if (first := pc.index(hostile, True).as_py()) >= 0:
            raise ArgumentError(
                f"{path}: line {first + 1} of the data: {column[first].as_py()!r} leaves the folder of images; "
                "pass table(..., outside=True) to allow it"
            )
    return column.combine_chunks()


def _no_missing(column: Any, path: Path, name: str) -> None:
    import pyarrow.compute as pc

    if column.null_count:
        first = pc.index(pc.is_null(column), True).as_py()
        raise ArgumentError(f"{path}: line {first + 1} of the data: column {name!r} has no value")


def _labels(column: Any, path: Path, name: str) -> tuple[Array, tuple[str, ...]]:
    import pyarrow as pa

    _no_missing(column, path, name)
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return column.to_numpy().astype(np.int64), ()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        classes, labels = np.unique(column.to_numpy().astype(str), return_inverse=True)
        return labels.astype(np.int64), tuple(classes.tolist())
    raise ArgumentError(f"{path}: column {name!r}: expected whole numbers or class names, found {kind}")


def _numbers(column: Any, path: Path, name: str) -> Array | None:
    """None if the column does not hold numbers."""
    import pyarrow as pa

    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        return None
    _no_missing(column, path, name)
    check_field_name(name, f"{path}: column")
    values = column.to_numpy()
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
