"""Opens the stores that a command is given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from largeds_native.store import Store

STORES = Annotated[
    list[Path],
    typer.Argument(help="A store, or an HDF5 file with contiguous images; several are joined as by lds.concat."),
]


def open_stores(paths: Sequence[Path]) -> Store:
    """The store, or several joined."""
    from largeds_native.opening import open_store
    from largeds_native.store import concat

    stores = [open_store(path) for path in paths]
    return stores[0] if len(stores) == 1 else concat(stores)
