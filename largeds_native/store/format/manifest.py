"""`manifest.json`: the metadata of a store, and its shards. Every value is checked before it is used."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from largeds_native._internal.arrays import (
    IMAGE_DTYPES,
    MASK,
    MASK_DTYPES,
    MAX_CHANNELS,
    PICTURE,
    PNG_DTYPES,
    FieldSpec,
    check_field_name,
)
from largeds_native.errors import StorageError, StoreError
from largeds_native.store.format.json_reader import JsonReader, short
from largeds_native.store.metadata import MeanStd, Metadata, SizeRange

FORMAT = "largeds"
VERSIONS = {"raw": 1, "jpeg": 2}  # of the format, by the codec of the rows
NEWEST = 3  # of either codec, with pictures; and of raw rows that are wide
NAME = "manifest.json"
PLAN_NAME = ".pack.json"  # exists in the folder of an unfinished pack
MAX_BYTES = 256 << 20
MAX_ROWS = 1 << 48
MAX_IMAGES_BYTES = 1 << 60  # of a shard's images.bin
MAX_EXTENT = 1 << 31
MAX_SIDE = 65_535  # of a JPEG file
LAYOUTS = ("CHW", "HWC")

_SHARD_NAME = re.compile(r"shard-[0-9]{5,9}")
_DTYPE_NAME = re.compile(r"bool|u?int(8|16|32|64)|float(16|32|64)|complex(64|128)|<U[0-9]{1,6}|\|S[0-9]{1,6}")


@dataclass(frozen=True)
class ShardEntry:
    """A shard as the manifest lists it."""

    name: str
    rows: int
    hash: str = ""  # see shard_digest
    bytes: int = 0  # of images.bin, in a JPEG store
    turned: bool = False  # in a JPEG store: images.orientation.npy exists, as some rows are not upright
    picture_bytes: Mapping[str, int] = field(default_factory=dict)  # in a JPEG store: of each picture's file


@dataclass(frozen=True)
class Manifest(Metadata):
    """The checked metadata of a packed store, and its shards in order."""

    shards: tuple[ShardEntry, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": NEWEST if self.pictures or self.is_wide else VERSIONS[self.codec],
            "codec": self.codec,
            "rows": self.rows,
            "image": self._image_json(),
            "shards": [self._shard_json(shard) for shard in self.shards],
            "fields": {name: _field_json(spec) for name, spec in self.fields.items()},
            "classes": list(self.classes),
            "normalized": _mean_std_json(self.normalized),
            "statistics": _mean_std_json(self.statistics),
            "variants": self.variants,
            "options": dict(self.options),
            "libraries": dict(self.libraries),
        }

    def _image_json(self) -> dict[str, Any]:
        if self.sizes is None:
            return {"shape": list(self.shape), "dtype": self.dtype.name, "layout": self.layout}
        sizes = {"min_size": list(self.sizes.min), "max_size": list(self.sizes.max)}
        return {"channels": self.channels, "dtype": self.dtype.name, "layout": self.layout, **sizes}

    def _shard_json(self, shard: ShardEntry) -> dict[str, Any]:
        jpeg: dict[str, Any] = {} if self.codec == "raw" else {"bytes": shard.bytes, "turned": shard.turned}
        if shard.picture_bytes:
            jpeg["picture_bytes"] = dict(shard.picture_bytes)
        return {"name": shard.name, "rows": shard.rows, **jpeg, "hash": shard.hash}

    def to_bytes(self) -> bytes:
        return (json.dumps(self.to_json(), indent=1, ensure_ascii=True, allow_nan=False) + "\n").encode()

    @property
    def identity(self) -> str:
        """Sixteen hex digits, equal for two stores only if their contents and options are equal."""
        return hashlib.sha256(self.to_bytes()).hexdigest()[:16]


def _field_json(spec: FieldSpec) -> dict[str, Any]:
    plain = {"dtype": _dtype_name(spec.dtype), "shape": list(spec.shape)}
    ignore = {"ignore": spec.ignore} if spec.is_mask else {}
    return {**plain, "role": spec.role, **ignore} if spec.is_picture else plain


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
    return manifest_of(data, str(path))


def manifest_of(data: bytes, where: str) -> Manifest:
    """The manifest in these bytes, at most MAX_BYTES of which are read; `where` begins the error messages."""
    if len(data) > MAX_BYTES:
        raise StoreError(f"{where}: expected at most {MAX_BYTES:,} bytes, found more")
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{where} is not JSON: {str(error)[:200]}") from None
    return parse_manifest(tree, where)


def _missing_store(folder: Path) -> str:
    if not folder.exists():
        return f"{folder} does not exist: expected the folder of a store"
    if not folder.is_dir():
        return f"{folder}: expected the folder of a store, found a file"
    if (folder / PLAN_NAME).exists():
        return (
            f"{folder} is an unfinished pack: run the same pack again, which continues from the finished shards, "
            "or says again why it can't end"
        )
    return f"{folder} is not a store: it has no {NAME}; of a folder of images, `largeds pack` or lds.pack makes one"


def parse_manifest(tree: object, where: str) -> Manifest:
    """Checks every number and name of a JSON tree; `where` begins the error messages."""
    top = JsonReader(tree, where)
    codec = _checked_codec(top)
    layout = top.child("image").choice("layout", LAYOUTS)
    fields = {name: _field(name, entry, where) for name, entry in top.child("fields").tree.items()}
    pictures = [name for name, spec in fields.items() if spec.is_picture]
    shards = _shards(top, codec, pictures)
    rows = sum(shard.rows for shard in shards)
    shape, dtype, sizes = _raw_image(top, layout) if codec == "raw" else _jpeg_image(top, layout, shards)
    channels = shape[0] if layout == "CHW" else shape[2]
    classes = top.sequence("classes")
    if not all(isinstance(name, str) for name in classes):
        raise StoreError(f"{where}: classes: expected names, found something else")
    found = Manifest(
        rows=rows,
        shape=shape,
        dtype=np.dtype(dtype).newbyteorder("<"),
        layout=layout,
        shards=shards,
        fields=fields,
        classes=tuple(classes),
        normalized=_mean_std(top, "normalized", channels),
        statistics=_mean_std(top, "statistics", channels),
        variants=top.integer("variants", 1, 1 << 20),
        options=top.plain("options"),
        libraries=top.plain("libraries"),
        codec=codec,
        sizes=sizes,
    )
    if codec == "jpeg" and (found.normalized, found.statistics, found.variants) != (None, None, 1):
        raise StoreError(f"{where}: expected JPEG rows without normalized, statistics and variants, found some")
    if (bool(pictures) or found.is_wide) != (top.get("version") == NEWEST):
        raise StoreError(
            f"{where}: expected version {NEWEST} for a store with masks or other pictures, or with images of 16-bit "
            f"integers or of other than 1 or 3 channels, and for no other; found version {top.get('version')}"
        )
    _check_pictures(found, where)
    return found


def _check_pictures(found: Manifest, where: str) -> None:
    """A picture has the size of the raw images; as a PNG row, one channel of 8 or 16 bits."""
    size = found.image_size if found.codec == "raw" else (0, 0)
    for name, spec in found.pictures.items():
        is_png = found.codec == "raw" or (spec.dtype.name in PNG_DTYPES and spec.values.channels == 1)
        if spec.shape[-2:] != size or found.variants != 1 or not is_png:
            raise StoreError(
                f"{where}: fields.{name}: expected {spec.role}s of {list(size)} pixels, of one variant, found "
                f"{list(spec.shape)}, {spec.dtype} and {found.variants} variants"
            )


def _checked_codec(top: JsonReader) -> str:
    if top.get("format") != FORMAT:
        raise StoreError(f"{top.where}: expected format {FORMAT!r}, found {short(top.get('format'))}")
    version = top.integer("version", 0, MAX_EXTENT)
    if not 1 <= version <= NEWEST:
        newest = NEWEST
        age = "newer: update largeds-native" if version > newest else "older: pack again"
        raise StoreError(f"{top.where}: expected store version 1 to {newest}, found {version}, which is {age}")
    codec = next((name for name, known in VERSIONS.items() if known == version), top.get("codec"))
    if codec not in VERSIONS or top.get("codec") != codec:
        found = short(top.get("codec"))
        raise StoreError(
            f"{top.where}: expected codec {codec!r} in a store of version {version}, found {found}: update "
            "largeds-native, or the manifest was changed"
        )
    return codec


def _raw_image(top: JsonReader, layout: str) -> tuple[tuple[int, int, int], str, None]:
    image = top.child("image")
    shape = image.integers("shape", 1, MAX_EXTENT)
    if len(shape) != 3:
        raise StoreError(f"{top.where}: image.shape: expected three numbers, found {short(list(shape))}")
    channels = shape[0] if layout == "CHW" else shape[2]
    if channels > MAX_CHANNELS:
        raise StoreError(f"{top.where}: image.shape: expected 1 to {MAX_CHANNELS} channels, found {channels}")
    return (shape[0], shape[1], shape[2]), image.choice("dtype", IMAGE_DTYPES), None


def _jpeg_image(
    top: JsonReader, layout: str, shards: tuple[ShardEntry, ...]
) -> tuple[tuple[int, int, int], str, SizeRange]:
    image = top.child("image")
    channels = image.integer("channels", 1, 3)
    if channels == 2:
        raise StoreError(f"{top.where}: image.channels: expected 1 or 3, found 2")
    smallest = 1 if any(shard.rows for shard in shards) else 0
    low, high = (image.integers(key, smallest, MAX_SIDE) for key in ("min_size", "max_size"))
    if len(low) != 2 or len(high) != 2 or low[0] > high[0] or low[1] > high[1]:
        found = f"{short(list(low))} and {short(list(high))}"
        raise StoreError(
            f"{top.where}: image: expected min_size and max_size of (height, width), the first no larger, found {found}"
        )
    sizes = SizeRange((low[0], low[1]), (high[0], high[1]), sum(shard.bytes for shard in shards))
    return jpeg_shape(channels, layout, sizes), image.choice("dtype", ("uint8",)), sizes


def jpeg_shape(channels: int, layout: str, sizes: SizeRange) -> tuple[int, int, int]:
    """Of the images of a JPEG store: 0 for height and width unless all have one size."""
    height, width = sizes.min if sizes.min == sizes.max else (0, 0)
    return (channels, height, width) if layout == "CHW" else (height, width, channels)


def _shards(top: JsonReader, codec: str, pictures: Sequence[str]) -> tuple[ShardEntry, ...]:
    shards = []
    for i, entry in enumerate(top.sequence("shards")):
        reader = JsonReader(entry, f"{top.where}: shards[{i}]")
        name = _check_shard_name(reader.get("name"), reader.where)
        size = 0 if codec == "raw" else reader.integer("bytes", 0, MAX_IMAGES_BYTES)
        turned = codec == "jpeg" and reader.boolean("turned")
        of_pictures = {} if codec == "raw" or not pictures else _picture_bytes(reader, pictures)
        rows_of_shard = reader.integer("rows", 0, MAX_ROWS)
        shards.append(ShardEntry(name, rows_of_shard, reader.text("hash", ""), size, turned, of_pictures))
    if len({shard.name for shard in shards}) != len(shards):
        raise StoreError(f"{top.where}: shards: a name is listed twice")
    rows, total = top.integer("rows", 0, MAX_ROWS), sum(shard.rows for shard in shards)
    if rows != total:
        raise StoreError(f"{top.where}: rows: expected the sum of the shards' rows, {total:,}, found {rows:,}")
    return tuple(shards)


def _picture_bytes(shard: JsonReader, pictures: Sequence[str]) -> dict[str, int]:
    reader = shard.child("picture_bytes")
    if sorted(reader.tree) != sorted(pictures):
        raise StoreError(
            f"{shard.where}: picture_bytes: expected {', '.join(pictures)}, found {short(sorted(reader.tree))}"
        )
    return {name: reader.integer(name, 0, MAX_IMAGES_BYTES) for name in pictures}


def _field(name: object, entry: object, where: str) -> FieldSpec:
    reader = JsonReader(entry, f"{where}: fields.{check_field_name(name, f'{where}: fields')}")
    if "role" in reader.tree:
        return _picture(reader)
    shape = reader.integers("shape", 1, MAX_EXTENT)
    if len(shape) > 16:
        raise StoreError(f"{reader.where}.shape: expected at most 16 dimensions, found {len(shape)}")
    return FieldSpec(_field_dtype(reader.get("dtype"), f"{reader.where}.dtype"), shape)


def _picture(reader: JsonReader) -> FieldSpec:
    role = reader.choice("role", (MASK, PICTURE))
    dtype = np.dtype(reader.choice("dtype", MASK_DTYPES if role == MASK else IMAGE_DTYPES)).newbyteorder("<")
    shape = reader.integers("shape", 0, MAX_EXTENT)
    if len(shape) != (2 if role == MASK else 3) or (role == PICTURE and not 1 <= shape[0] <= MAX_CHANNELS):
        raise StoreError(f"{reader.where}.shape: expected that of a {role}, found {list(shape)}")
    if role == PICTURE:
        return FieldSpec(dtype, shape, PICTURE)
    ignore, limits = reader.get("ignore"), np.iinfo(dtype)
    if ignore is not None:
        ignore = reader.integer("ignore", int(limits.min), int(limits.max))
    return FieldSpec(dtype, shape, MASK, ignore)


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
