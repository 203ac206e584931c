"""Images that lie inside a table's cells: bytes, or {bytes, path} as Hugging Face writes them."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import numpy as np

from largeds_native._internal.object_file import ObjectFile
from largeds_native._internal.urls import is_url
from largeds_native.errors import StorageError
from largeds_native.sources.base import FailedItem, Indices, Item


def is_embedded(kind: Any) -> bool:
    """Whether cells of this type hold the bytes of images."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


class ParquetImages:
    """A column of a Parquet file, of which one row group is in memory at a time."""

    def __init__(self, parquet: Any, name: str, where: str) -> None:
        self._parquet, self._name, self._where = parquet, name, where
        groups = [parquet.metadata.row_group(i).num_rows for i in range(parquet.metadata.num_row_groups)]
        self._ends = np.cumsum(groups)
        self._group: tuple[int, Any] = (-1, None)

    def __reduce__(self) -> tuple[Any, ...]:
        """An open file can't be sent to another process, which opens it again."""
        return _reopen, (self._where if is_url(self._where) else os.path.abspath(self._where), self._name)

    def take(self, indices: Indices) -> list[Item]:
        items = []
        for index in indices.tolist():
            group = int(np.searchsorted(self._ends, index, "right"))
            start = int(self._ends[group - 1]) if group else 0
            items.append(_item(self._read(group)[index - start].as_py()))
        return items

    def _read(self, group: int) -> Any:
        import pyarrow as pa

        if self._group[0] != group:
            try:
                self._group = group, self._parquet.read_row_group(group, columns=[self._name]).column(0)
            except (OSError, pa.ArrowException) as error:
                raise StorageError(f"{self._where}: row group {group} can't be read: {str(error)[:200]}") from error
        return self._group[1]

    def fingerprint(self) -> str:
        """Of the file's own list of what lies where; contents are not read."""
        return hashlib.sha256(repr(self._parquet.metadata.to_dict()).encode()).hexdigest()


def _reopen(file: str, name: str) -> ParquetImages:
    import pyarrow.parquet as pq

    return ParquetImages(pq.ParquetFile(ObjectFile(file) if is_url(file) else file), name, file)


class ColumnImages:
    """A column in memory."""

    def __init__(self, column: Any) -> None:
        self._column = column

    def take(self, indices: Indices) -> list[Item]:
        return [_item(self._column[index].as_py()) for index in indices.tolist()]

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for cell in self._column:
            item = _item(cell.as_py())
            data = item if isinstance(item, bytes) else b""
            digest.update(len(data).to_bytes(8, "little") + data)
        return digest.hexdigest()


def _item(cell: Any) -> Item:
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    return data if isinstance(data, bytes) else FailedItem("source", "the table has no image here")
