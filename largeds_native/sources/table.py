"""Images that a CSV or Parquet table, or a DataFrame, lists or holds."""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from largeds_native._internal.arrays import Array, FieldSpec
from largeds_native._internal.object_file import ObjectFile, read_object, state_of
from largeds_native._internal.urls import hiding_credentials, is_url, join, local_path, split_query, without_credentials
from largeds_native.errors import ArgumentError, StorageError
from largeds_native.sources import columns
from largeds_native.sources.base import LABEL, IndexedSource, Indices, Item, Source, SourceBatch
from largeds_native.sources.classes import with_classes
from largeds_native.sources.embedded import ColumnImages, ParquetImages, is_embedded
from largeds_native.sources.listing import states_of
from largeds_native.sources.pictures import Beside, beside, spec_of, spread

PATHS = ("path", "file", "filename", "file_name", "filepath", "image_path", "image")
LABELS = ("label", "class", "category", "target")
EMBEDDED_BATCH = 256  # images that lie inside the table, read at once


def table(
    file: str | os.PathLike[str] | Any,
    *,
    path: str | None = None,
    label: str | None = None,
    root: str | os.PathLike[str] | None = None,
    outside: bool = False,
    classes: Any = None,
    masks: str | Mapping[str, str] | None = None,
    pictures: Mapping[str, str] | None = None,
    ignore: int | None = None,
) -> Source:
    """A source from a CSV file (with a header line), a Parquet file, the URL of one, or a DataFrame, with one line an
    image.

    Column `path` holds the image's URL, or its path below `root` (default: the table's folder, which may be a URL as
    s3://bucket/train), or in a Parquet file the image itself, as bytes or as {bytes, path}. Column `label` holds whole
    numbers, class names (numbered in sorted order), or lists of numbers, all of one length. Without these arguments the
    columns are found by the usual names: path, file, filename, file_name, filepath, image_path, image; and label,
    class, category, target. Every other column of numbers becomes a field, a missing number NaN. `store.report.notes`
    says which columns were taken, and which were left out. Spaces around class names, and around the names in the
    header of a CSV file, are no part of them. `classes`, names or a store, numbers the class names as these do. Paths
    that are absolute or leave the root by '..' are refused unless `outside` is True.
    `masks` is the column with each image's mask, as path or bytes, which becomes the field "mask"; or a mapping from
    names of fields to columns. `ignore` is the number of a mask's pixels outside of the image, which a random crop with
    padding shows. `pictures` maps names of fields to the columns of other pictures beside the images, such as depth.

    Raises ArgumentError for an invalid file; the message names the column or the line.
    """
    return with_classes(TableSource(file, path, label, root, outside, beside(masks, pictures), ignore), classes)


class TableSource(IndexedSource):
    def __init__(
        self,
        file: Any,
        path: str | None,
        label: str | None,
        root: Any,
        outside: bool,
        pictures: Mapping[str, Beside],
        ignore: int | None,
    ) -> None:
        with hiding_credentials(os.fspath(file) if isinstance(file, (str, os.PathLike)) else ""):
            where, found, parquet = _read(file)
        in_memory = where == IN_MEMORY
        self._file = None if in_memory else _absolute(where)
        self._top = _absolute(root) if root is not None else _absolute(".") if in_memory else _parent(str(self._file))
        where = without_credentials(where)
        self.root = without_credentials(self._top)
        self.description = where if in_memory else f"manifest {without_credentials(str(self._file))}"
        names = _distinct([*found.column_names, *_embedded(parquet)], where)
        path = columns.choose(names, path, PATHS, "path", where)
        if path is None:
            raise ArgumentError(
                f"{where}: expected a column 'path', found {', '.join(names)}: say path='...', or --path"
            )
        label = columns.choose(names, label, LABELS, "label", where)
        if where.lower().endswith(".csv") and (_is_bytes(found, path) or _is_bytes(found, label)):
            _check_utf8(file, where)
        self._images, self._names = _cells(found, parquet, path, where, outside)
        for one in pictures.values():
            columns.choose(names, one.where, (), f"{one.role}s", where)
        self._picture_cells = {
            name: _cells(found, parquet, one.where, where, outside) for name, one in pictures.items()
        }
        taken = [one.where for one in pictures.values()]
        self.is_remote = is_url(self._top) or any(
            images is None and _has_urls(names)
            for images, names in [(self._images, self._names), *self._picture_cells.values()]
        )
        self._count = found.num_rows if parquet is None else parquet.metadata.num_rows
        self._values: dict[str, Array] = {}
        self.notes = self._take_columns(found, where, path, label, [n for n in names if n not in taken])
        if self._images is not None or any(images is not None for images, _ in self._picture_cells.values()):
            self.batch, self.root = EMBEDDED_BATCH, None
        for name, one in pictures.items():
            if name in self._values:
                raise ArgumentError(
                    f"{one.role}s: {where} has a column {name!r} of numbers: give the {one.role}s another name"
                )
        chosen = spread(self.count)
        self._pictures = {
            name: spec_of(self._picture_items(name, chosen), one.role, ignore) for name, one in pictures.items()
        }

    def _take_columns(self, found: Any, where: str, path: str, label: str | None, names: list[str]) -> tuple[str, ...]:
        """Labels and fields of the columns; gives the sentences that say what was taken and what was not."""
        notes = [
            f"images are column {path!r}, " + (f"labels column {label!r}" if label else "there is no label column")
        ]
        if label is not None:
            if label not in found.column_names:
                raise ArgumentError(f"{where}: column {label!r}: expected labels, found bytes")
            self._values["label"], self.classes = columns.label_values(columns.plain(found[label]), where, label)
        left_out = []
        for name in names:
            if name in (path, label):
                continue
            field = columns.field_name(name)
            values = columns.number_values(columns.plain(found[name])) if name in found.column_names else None
            if field is None or values is None or field in self._values or field == "label":
                left_out.append(name or "(without a name)")
                continue
            self._values[field] = values
            if field != name:
                notes.append(f"column {name!r} is the field {field!r}")
        if left_out:
            notes.append(f"columns left out: {', '.join(left_out)} (no numbers of one shape, or no name for a field)")
        return tuple(notes)

    @property
    def fields(self) -> dict[str, FieldSpec]:
        one = {name: FieldSpec(values.dtype, values.shape[1:]) for name, values in self._values.items()}
        return {name: LABEL if name == "label" and not spec.shape else spec for name, spec in one.items()}

    @property
    def count(self) -> int:
        return int(self._count)

    @property
    def pictures(self) -> dict[str, FieldSpec]:
        return self._pictures

    def take(self, indices: Indices) -> SourceBatch:
        fields = {name: values[indices] for name, values in self._values.items()}
        pictures = {name: self._picture_items(name, indices) for name in self._picture_cells}
        if self._images is not None:
            return SourceBatch(self._images.take(indices), [f"#{i}" for i in indices.tolist()], fields, pictures)
        names = [str(name) for name in self._names.take(indices).to_pylist()]
        shown = [without_credentials(name) for name in names] if self.is_remote else names
        return SourceBatch([self._located(name) for name in names], shown, fields, pictures)

    def _located(self, name: str) -> str:
        """The path, or the URL, of what a cell names."""
        if is_url(name):
            return name
        name = local_path(name)
        return join(self._top, name) if is_url(self._top) else os.path.join(self._top, name)

    def _picture_items(self, name: str, indices: Indices) -> list[Item]:
        images, names = self._picture_cells[name]
        if images is not None:
            items: list[Item] = images.take(indices)
            return items
        return [self._located(str(path)) for path in names.take(indices).to_pylist()]

    def paths(self, indices: Indices) -> list[tuple[str, str]]:
        if self._images is not None:
            local = self._file is not None and not is_url(self._file)
            return [(f"#{i}", str(self._file)) for i in indices.tolist()] if local else []
        batch = self.take(indices)
        of_pictures = [items for items in batch.pictures.values() if all(isinstance(item, str) for item in items)]
        return [
            (name, str(i))
            for items in (batch.items, *of_pictures)
            for name, i in zip(batch.names, items, strict=True)
            if not is_url(i)
        ]

    def files_state(self) -> str:
        """Of objects, the state of the table's own; of those that it names, their folder's listing."""
        told = [super().files_state()]
        if self._images is not None and self._file is not None and is_url(self._file):
            told.append(repr(state_of(self._file)))
        elif self.is_remote:
            told.append(states_of(str(item) for item in self._all_items() if is_url(item)))
        return told[0] if len(told) == 1 else hashlib.sha256(repr(told).encode()).hexdigest()

    def _all_items(self) -> Iterator[Item]:
        for low in range(0, self.count, self.batch):
            batch = self.take(np.arange(low, min(low + self.batch, self.count)))
            for items in (batch.items, *batch.pictures.values()):
                yield from items

    def fingerprint(self) -> str:
        digest = hashlib.sha256(repr((self.classes, sorted(self._values))).encode())
        if self._images is not None:
            digest.update(self._images.fingerprint().encode())
        else:
            for start in range(0, self.count, 1 << 16):
                digest.update("\0".join(self._names.slice(start, 1 << 16).to_pylist()).encode())
        for _, (images, names) in sorted(self._picture_cells.items()):
            told = images.fingerprint() if images is not None else "\0".join(names.to_pylist())
            digest.update(told.encode())
        for _, values in sorted(self._values.items()):
            digest.update(f"{values.dtype.str} {values.shape}".encode())
            digest.update(values.tobytes())
        return digest.hexdigest()


IN_MEMORY = "table in memory"


def _absolute(path: str | os.PathLike[str]) -> str:
    return str(path) if is_url(path) else os.path.abspath(local_path(path))


def _parent(path: str) -> str:
    return path.rpartition("/")[0] if is_url(path) else os.path.dirname(path)


def _has_urls(names: Any) -> bool:
    """Whether any cell is a URL."""
    import pyarrow.compute as pc

    return bool(pc.any(pc.match_substring_regex(names, r"^[A-Za-z][A-Za-z0-9+.-]*://")).as_py())


def _cells(found: Any, parquet: Any, column: str, where: str, outside: bool) -> tuple[Any, Any]:
    """(images that lie inside of the table, or None; else their paths)."""
    if column not in found.column_names:
        return ParquetImages(parquet, column, where), None
    if is_embedded(found[column].type):
        return ColumnImages(found[column]), None
    return None, _paths(columns.plain(found[column]), where, column, outside)


def _read(file: Any) -> tuple[str, Any, Any]:
    """(the file's name or `IN_MEMORY`, the table, the ParquetFile); of a Parquet file without the images inside it."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    if not isinstance(file, (str, os.PathLike)):
        return IN_MEMORY, _from_memory(file), None
    file = where = local_path(file)
    try:
        if Path(split_query(where)[0]).suffix.lower() == ".parquet":
            parquet = pq.ParquetFile(ObjectFile(where) if is_url(where) else file)
            inside = _embedded(parquet)
            return where, parquet.read([n for n in parquet.schema_arrow.names if n not in inside]), parquet
        found = pyarrow.csv.read_csv(io.BytesIO(read_object(where)) if is_url(where) else file)
        return where, found.rename_columns([name.strip() for name in found.column_names]), None
    except (pa.ArrowException, UnicodeDecodeError) as error:
        if Path(file).suffix.lower() == ".csv":
            _check_utf8(file, where)
        raise ArgumentError(f"{where} can't be read as a table: {str(error)[:200]}") from None
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(error.errno, f"{where}: {error.strerror or error}") from error


def _is_bytes(found: Any, name: str | None) -> bool:
    """Whether a column holds bytes; of a CSV file, these are texts that are no UTF-8."""
    import pyarrow as pa

    return name in found.column_names and bool(pa.types.is_binary(found[name].type))


def _check_utf8(file: Any, where: str) -> None:
    """Raises ArgumentError for a CSV file that is no UTF-8 text, naming the first line that shows it."""
    with io.BytesIO(read_object(file)) if is_url(file) else open(file, "rb") as lines:
        wrong = next((found for found in enumerate(lines, 1) if not _is_utf8(found[1])), None)
    if wrong is not None:
        raise ArgumentError(
            f"{where}: line {wrong[0]} is no UTF-8 text, {wrong[1][:60]!r}: save the file as UTF-8, as by "
            "iconv -f LATIN1 -t UTF-8 or as Excel's 'CSV UTF-8'"
        )


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _from_memory(frame: Any) -> Any:
    """pandas' DataFrame, or another that tells its columns by Arrow's protocol."""
    import pyarrow as pa

    try:
        if hasattr(frame, "iloc"):
            return pa.Table.from_pandas(frame, preserve_index=False)
        return frame.to_arrow() if hasattr(frame, "to_arrow") else pa.table(frame)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise ArgumentError(f"expected a table, found {type(frame).__name__}: {str(error)[:200]}") from None


def _embedded(parquet: Any) -> list[str]:
    """Columns of a Parquet file whose cells are images."""
    return [] if parquet is None else [column.name for column in parquet.schema_arrow if is_embedded(column.type)]


def _distinct(names: list[str], where: str) -> list[str]:
    for name, count in Counter(names).items():
        if count > 1:
            raise ArgumentError(f"{where}: {count} columns are named {name!r}: give each a name of its own")
    return names


def _paths(column: Any, where: str, name: str, outside: bool) -> Any:
    import pyarrow.compute as pc

    if not columns.is_text(column.type):
        raise ArgumentError(f"{where}: column {name!r}: expected paths, found {column.type}")
    columns.check_complete(column, where, name)
    if not outside:
        hostile = pc.match_substring_regex(column, r"^/|(^|/)\.\.(/|$)|^(?i:file|local)://")
        if (first := pc.index(hostile, True).as_py()) >= 0:
            raise ArgumentError(
                f"{where}: line {first + 1} of the data: {column[first].as_py()!r} leaves the folder of images; "
                "pass table(..., outside=True) to allow it"
            )
    return column.combine_chunks()
