"""Finds the source for the argument of `pack`."""

from __future__ import annotations

import glob
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
from largeds_native.sources.table import table
from largeds_native.sources.tar import tar

TABLES = (".csv", ".parquet")


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
    if isinstance(source, (str, os.PathLike)) and Path(source).suffix.lower() in TABLES:
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
    if is_url(source):
        return _from_url(source)
    if isinstance(source, (str, os.PathLike)):
        return _from_path(Path(local_path(source)))
    if isinstance(source, (list, tuple)) and source and all(isinstance(item, (str, os.PathLike)) for item in source):
        return _from_paths([item if is_url(item) else Path(local_path(item)) for item in source])
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


def _ending(url: str) -> str:
    return os.path.splitext(split_query(url)[0].rstrip("/"))[1].lower()


def _is_folder_url(source: Any) -> bool:
    return is_url(source) and _ending(source) not in (*TABLES, ".tar")


def _from_url(url: str) -> Source:
    if _is_folder_url(url):
        return folder(url)
    return tar(url) if _ending(url) == ".tar" else table(url)


def _from_paths(paths: list[Any]) -> Source:
    """Several files, or URLs of them: images, or tar shards."""
    for path in paths:
        if is_url(path):
            if _ending(path) in TABLES:
                shown = without_credentials(path)
                raise ArgumentError(f"{shown}: several URLs are tar files, or images; tables are packed one at a time")
            continue
        if path.is_dir() or path.suffix.lower() in TABLES:
            kind = "folders" if path.is_dir() else "tables"
            raise ArgumentError(
                f"{path}: several paths are tar files, or images; {kind} are packed one at a time"
                + (": or put them, or links to them, into one folder, each a class" if path.is_dir() else "")
            )
    if all((_ending(path) if is_url(path) else path.suffix.lower()) in EXTENSIONS for path in paths):
        return dataset([path if is_url(path) else Path(os.path.abspath(path)) for path in paths])
    return tar(paths)


def _from_path(path: Path) -> Source:
    if path.is_dir():
        return folder(path)
    if not path.exists():
        if glob.glob(str(path)):
            return tar(path)
        raise ArgumentError(f"{path} does not exist: expected a folder of images, a manifest, or a tar file")
    suffix = path.suffix.lower()
    if suffix in TABLES:
        return table(path)
    if suffix == ".tar" or ".tar" in path.suffixes or suffix == ".tgz":  # that a compressed one can't be read is said
        return tar(path)
    raise ArgumentError(f"{path}: expected a folder of images, a .csv or .parquet manifest, or a .tar file")
