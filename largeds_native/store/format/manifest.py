"""`manifest.json`: the metadata of a store, and its shards. Every value is checked before it is used."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from largeds_native._internal.arrays import FieldSpec, check_field_name
from largeds_native.errors import StorageError, StoreError
from largeds_native.store.format.json_reader import JsonReader, short
from largeds_native.store.metadata import MeanStd, Metadata

FORMAT = "largeds"
VERSION = 1
CODEC = "raw"
NAME = "manifest.json"
PLAN_NAME = ".pack.json"  # exists in the folder of an unfinished pack
MAX_BYTES = 256 << 20
MAX_ROWS = 1 << 48
MAX_EXTENT = 1 << 31
IMAGE_DTYPES = ("uint8", "float16", "float32")
LAYOUTS = ("CHW", "HWC")

_SHARD_NAME = re.compile(r"shard-[0-9]{5,9}")
_DTYPE_NAME = re.compile(r"bool|u?int(8|16|32|64)|float(16|32|64)|complex(64|128)|<U[0-9]{1,6}|\|S[0-9]{1,6}")


@dataclass(frozen=True)
class ShardEntry:
    """A shard as the manifest lists it."""

    name: str
    rows: int
    hash: str = ""  # see shard_digest


@dataclass(frozen=True)
class Manifest(Metadata):
    """The checked metadata of a packed store, and its shards in order."""

    shards: tuple[ShardEntry, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "codec": CODEC,
            "rows": self.rows,
            "image": {"shape": list(self.shape), "dtype": self.dtype.name, "layout": self.layout},
            "shards": [{"name": s.name, "rows": s.rows, "hash": s.hash} for s in self.shards],
            "fields": {k: {"dtype": _dtype_name(v.dtype), "shape": list(v.shape)} for k, v in self.fields.items()},
            "classes": list(self.classes),
            "normalized": _mean_std_json(self.normalized),
            "statistics": _mean_std_json(self.statistics),
            "variants": self.variants,
            "options": dict(self.options),
            "libraries": dict(self.libraries),
        }

    def to_bytes(self) -> bytes:
        return (json.dumps(self.to_json(), indent=1, ensure_ascii=True, allow_nan=False) + "\n").encode()

    @property
    def identity(self) -> str:
        """Sixteen hex digits, equal for two stores only if their contents and options are equal."""
        return hashlib.sha256(self.to_bytes()).hexdigest()[:16]


def _mean_std_json(value: MeanStd | None) -> dict[str, list[float]] | None:
    return None if value is None else {"mean": list(value[0]), "std": list(value[1])}


def read_manifest(folder: Path) -> Manifest:
    """Reads and checks the manifest; StoreError says what was expected and what was found."""
    path = folder / NAME
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(_missing_store(folder)) from None
    except OSError as error:
        raise StorageError(error.errno, f"{path}: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise StoreError(f"{path}: expected at most {MAX_BYTES:,} bytes, found more")
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path} is not JSON: {str(error)[:200]}") from None
    return parse_manifest(tree, str(path))


def _missing_store(folder: Path) -> str:
    if not folder.exists():
        return f"{folder} does not exist: expected the folder of a store"
    if not folder.is_dir():
        return f"{folder}: expected the folder of a store, found a file"
    if (folder / PLAN_NAME).exists():
        return f"{folder} is an unfinished pack: run the same pack again, which continues from the finished shards"
    return f"{folder} is not a store: it has no {NAME}"


def parse_manifest(tree: object, where: str) -> Manifest:
    """Checks every number and name of a JSON tree; `where` begins the error messages."""
    top = JsonReader(tree, where)
    _check_version(top)
    image = top.child("image")
    shape = image.integers("shape", 1, MAX_EXTENT)
    layout = image.choice("layout", LAYOUTS)
    if len(shape) != 3:
        raise StoreError(f"{where}: image.shape: expected three numbers, found {short(list(shape))}")
    channels = shape[0] if layout == "CHW" else shape[2]
    if channels not in (1, 3):
        raise StoreError(f"{where}: image.shape: expected 1 or 3 channels, found {channels}")
    classes = top.sequence("classes")
    if not all(isinstance(name, str) for name in classes):
        raise StoreError(f"{where}: classes: expected names, found something else")
    shards = _shards(top)
    return Manifest(
        rows=sum(shard.rows for shard in shards),
        shape=(shape[0], shape[1], shape[2]),
        dtype=np.dtype(image.choice("dtype", IMAGE_DTYPES)).newbyteorder("<"),
        layout=layout,
        shards=shards,
        fields={name: _field(name, entry, where) for name, entry in top.child("fields").tree.items()},
        classes=tuple(classes),
        normalized=_mean_std(top, "normalized", channels),
        statistics=_mean_std(top, "statistics", channels),
        variants=top.integer("variants", 1, 1 << 20),
        options=top.plain("options"),
        libraries=top.plain("libraries"),
    )


def _check_version(top: JsonReader) -> None:
    if top.get("format") != FORMAT:
        raise StoreError(f"{top.where}: expected format {FORMAT!r}, found {short(top.get('format'))}")
    version = top.integer("version", 0, MAX_EXTENT)
    if version != VERSION:
        age = "newer: update largeds-native" if version > VERSION else "older: pack again"
        raise StoreError(f"{top.where}: expected store version {VERSION}, found {version}, which is {age}")
    if top.get("codec") != CODEC:
        raise StoreError(
            f"{top.where}: expected codec {CODEC!r}, found {short(top.get('codec'))}: update largeds-native"
        )


def _shards(top: JsonReader) -> tuple[ShardEntry, ...]:
    shards = []
    for i, entry in enumerate(top.sequence("shards")):
        reader = JsonReader(entry, f"{top.where}: shards[{i}]")
        name = _check_shard_name(reader.get("name"), reader.where)
        shards.append(ShardEntry(name, reader.integer("rows", 0, MAX_ROWS), reader.text("hash", "")))
    if len({shard.name for shard in shards}) != len(shards):
        raise StoreError(f"{top.where}: shards: a name is listed twice")
    rows, total = top.integer("rows", 0, MAX_ROWS), sum(shard.rows for shard in shards)
    if rows != total:
        raise StoreError(f"{top.where}: rows: expected the sum of the shards' rows, {total:,}, found {rows:,}")
    return tuple(shards)


def _field(name: object, entry: object, where: str) -> FieldSpec:
    reader = JsonReader(entry, f"{where}: fields.{check_field_name(name, f'{where}: fields')}")
    shape = reader.integers("shape", 1, MAX_EXTENT)
    if len(shape) > 16:
        raise StoreError(f"{reader.where}.shape: expected at most 16 dimensions, found {len(shape)}")
    return FieldSpec(_field_dtype(reader.get("dtype"), f"{reader.where}.dtype"), shape)


def _mean_std(top: JsonReader, key: str, channels: int) -> MeanStd | None:
    if top.get(key) is None:
        return None
    reader = top.child(key)
    return reader.floats("mean", channels), reader.floats("std", channels)


def _check_shard_name(name: object, where: str) -> str:
    if not isinstance(name, str) or not _SHARD_NAME.fullmatch(name):
        raise StoreError(f"{where}: expected a name like 'shard-00000', found {short(name)}")
    return name


def _dtype_name(dtype: np.dtype[Any]) -> str:
    """The name of a field's dtype in a manifest."""
    return dtype.newbyteorder("<").str if dtype.kind in "SU" else dtype.name


def _field_dtype(text: object, where: str) -> np.dtype[Any]:
    """A fixed-size dtype without Python objects, little-endian."""
    if not isinstance(text, str) or not _DTYPE_NAME.fullmatch(text) or text in ("<U0", "|S0"):
        raise StoreError(f"{where}: expected the name of a fixed-size number or string dtype, found {short(text)}")
    return np.dtype(text).newbyteorder("<")
