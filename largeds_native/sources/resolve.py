"""Finds the source for the argument of `pack`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from largeds_native._internal.urls import is_url, local_path, split_query, without_credentials
from largeds_native.errors import ArgumentError
from largeds_native.sources.arrays import arrays
from largeds_native.sources.base import Source
from largeds_native.sources.datasets import dataset, encoded, hugging_face
from largeds_native.sources.folder import folder
from largeds_native.sources.folder_source import EXTENSIONS
from largeds_native.sources.patterns import expand
from largeds_native.sources.table import table
from largeds_native.sources.tar import TarSource

TABLES = (".csv", ".parquet")
COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".lz4")
EXPECTED = "expected a folder of images, a .csv or .parquet table, or tar files"


def as_source(
    source: Any, masks: Any = None, ignore: int | None = None, pictures: Mapping[str, Any] | None = None
) -> Source:
    """The source for any argument that `pack` accepts; ArgumentError for anything else. `masks` and `pictures`: as for
    the function that makes this kind of source."""
    if masks is None and ignore is None and pictures is None:
        return _as_source(source)
    further: dict[str, Any] = {"masks": masks, "pictures": pictures, "ignore": ignore}
    if isinstance(source, (str, os.PathLike)) and (Path(source).is_dir() or _is_folder_url(source)):
        return folder(source, **further)
    if is_table(source):
        return table(source, **further)
    if isinstance(source, tuple) and len(source) == 2 and not isinstance(source[0], (str, os.PathLike)):
        return arrays(*source, **further)
    if hasattr(source, "features") and hasattr(source, "cast_column"):
        return hugging_face(source, **further)
    paths = isinstance(source, (list, tuple)) and all(isinstance(item, (str, os.PathLike)) for item in source)
    if hasattr(source, "__getitem__") and hasattr(source, "__len__") and not isinstance(source, str) and not paths:
        return dataset(source, **further)
    raise ArgumentError(
        "masks, pictures and ignore go with a folder, a table, an (images, labels) pair of arrays, or a Dataset; for "
        f"others, see the functions of largeds_native.sources; found {type(source).__name__}"
    )


def _as_source(source: Any) -> Source:
    if isinstance(source, Source):
        return source
    if isinstance(source, (str, os.PathLike)):
        found = expand(source)
        one_image = _kind(found[0]) == "image" and found[0] != os.fspath(source)  # that a pattern stands for
        return _from_path(found[0]) if len(found) == 1 and not one_image else _from_paths(found)
    if isinstance(source, (list, tuple)) and source and all(isinstance(item, (str, os.PathLike)) for item in source):
        return _from_paths([found for item in source for found in _of_list(item)])
    if isinstance(source, tuple) and len(source) == 2:
        return arrays(*source)
    if isinstance(source, Mapping):
        raise ArgumentError(
            f"expected one data set, found a mapping of several: {', '.join(map(str, source))}; pass one of them"
        )
    if hasattr(source, "columns") and (hasattr(source, "iloc") or hasattr(source, "to_arrow")):
        return table(source)
    if hasattr(source, "features") and hasattr(source, "cast_column"):
        return hugging_face(source)
    if hasattr(source, "__getitem__") and hasattr(source, "__len__"):
        return dataset(source)
    if hasattr(source, "__iter__"):
        return encoded(source)
    raise ArgumentError(
        "expected a path, an (images, labels) pair of arrays, a torch Dataset, an iterable of (bytes, label), or a "
        f"source of largeds_native.sources; found {type(source).__name__}"
    )


def _of_list(item: str | os.PathLike[str]) -> list[str]:
    """Tar files may be named by patterns. An image has its own name, whatever is in it: it may be missing."""
    if _kind(os.fspath(item)) == "tar file":
        return expand(item)
    return [str(item) if is_url(item) else local_path(item)]


def _is_folder_url(source: Any) -> bool:
    return is_url(source) and _kind(source) == "folder"


def is_table(source: Any) -> bool:
    """Whether this is the path or URL of a table."""
    return isinstance(source, (str, os.PathLike)) and _kind(os.fspath(source)) == "table"


def _kind(path: str) -> str:
    """What a path or URL names: "folder", "table", "image" or "tar file"; of others, its ending."""
    if not is_url(path) and os.path.isdir(path):
        return "folder"
    name = split_query(path)[0].rstrip("/")
    endings = [ending.lower() for ending in Path(name).suffixes]
    ending = endings[-1] if endings else ""
    if ending in TABLES:
        return "table"
    if ending in EXTENSIONS:
        return "image"
    # that a compressed one can't be read is said when it is opened
    if ending in (".tar", ".tgz") or (ending in COMPRESSED and endings[-2:-1] == [".tar"]):
        return "tar file"
    return "folder" if is_url(path) else ending


def _from_path(path: str) -> Source:
    shown = without_credentials(path)
    if not is_url(path) and not os.path.exists(path):
        raise ArgumentError(f"{shown} does not exist: {EXPECTED}")
    kind = _kind(path)
    if kind == "folder":
        return folder(path)
    if kind == "table":
        return table(path)
    if kind == "tar file":
        return _tar_files([path])
    raise ArgumentError(f"{shown}: {EXPECTED}")


def _from_paths(paths: list[str]) -> Source:
    """Several files, or URLs of them: images, or tar shards."""
    kinds = list(map(_kind, paths))
    for path, kind in zip(paths, kinds, strict=True):
        if kind in ("folder", "table"):
            raise ArgumentError(
                f"{without_credentials(path)}: several paths are tar files, or images; {kind}s are packed one at a time"
                + (": or put them, or links to them, into one folder, each a class" if kind == "folder" else "")
            )
    images = [path for path, kind in zip(paths, kinds, strict=True) if kind == "image"]
    if len(images) == len(paths):
        return dataset([path if is_url(path) else Path(os.path.abspath(path)) for path in paths])
    if images:
        other = next(path for path, kind in zip(paths, kinds, strict=True) if kind != "image")
        raise ArgumentError(
            f"expected tar files, or images, found both: {without_credentials(other)} and "
            f"{without_credentials(images[0])}: pack them one after the other"
        )
    return _tar_files(paths)


def _tar_files(paths: list[str]) -> Source:
    """Of files, whose names are patterns no more."""
    return TarSource([path if is_url(path) else os.path.abspath(path) for path in paths])
