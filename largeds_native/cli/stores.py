"""Opens the stores that a command is given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from largeds_native._internal.urls import is_url, local_path, without_credentials
from largeds_native.cli.values import byte_count

if TYPE_CHECKING:
    from largeds_native.store import Store


def local(text: str) -> Path:
    """A path, for commands that read local files alone."""
    if is_url(text):
        raise typer.BadParameter(
            f"expected a local path, found the URL {without_credentials(text)}: copy it here first"
        )
    return Path(local_path(text))


def place(text: str) -> Path | str:
    """A path; or a URL, which a Path would spoil."""
    return text if is_url(text) else Path(local_path(text))


STORES = Annotated[
    list[Path],
    typer.Argument(
        parser=place,
        metavar="STORE...",
        help="A store, its URL, or an HDF5 file with contiguous images; several are joined as by lds.concat.",
    ),
]
CACHE = Annotated[
    Path | None, typer.Option("--cache", help="Of a store at a URL: the folder on a local disk that keeps its shards.")
]
CACHE_BYTES = Annotated[
    str | None, typer.Option("--cache-bytes", help="With --cache: most bytes of the store in it: 500M, 100G.")
]


def open_place(path: Path | str, cache: Path | None, cache_bytes: str | None = None) -> Store:
    """The store at a path or URL; the cache is for URLs alone."""
    from largeds_native.opening import open_store

    if not is_url(path):
        return open_store(path)
    return open_store(path, cache=cache, cache_bytes=None if cache_bytes is None else byte_count(cache_bytes))


def open_stores(paths: Sequence[Path], cache: Path | None = None, cache_bytes: str | None = None) -> Store:
    """The store, or several joined."""
    from largeds_native.store import concat

    stores = [open_place(path, cache, cache_bytes) for path in paths]
    return stores[0] if len(stores) == 1 else concat(stores)
