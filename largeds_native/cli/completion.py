"""What the shell proposes for a class, a column, a dataset of an HDF5 file, or a model, when Tab is pressed.

Proposals come within a few tenths of a second, so nothing here imports torch, and URLs are not read. Of anything that
can't be read nothing is proposed: a shell has no place for an error.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer

MANIFEST = "manifest.json"  # read as plain JSON, since the package of stores imports torch
MAX_BYTES = 64 << 20
MAX_LINE = 1 << 20
MOST = 1000  # datasets of a file
SPECIAL = re.compile(r"[^\w@%+=:,./-]")
MODEL = re.compile(r"^@register_model\([^)\n]*\)\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)


def proposing(names_in: Callable[[Path], Iterable[str]]) -> Callable[[typer.Context, str], list[str]]:
    """A completion by the names in the files and folders that the command line already has."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        names: list[str] = []
        for path in _given(ctx):
            with suppress(Exception):
                names += [name for name in names_in(path) if isinstance(name, str)]
        return _matching(names, incomplete)

    return complete


def models(incomplete: str) -> list[str]:
    """torchvision's classifiers, found in its files."""
    names: list[str] = []
    with suppress(Exception):
        package = importlib.util.find_spec("torchvision")
        for folder in (package and package.submodule_search_locations) or ():
            for file in sorted((Path(folder) / "models").glob("*.py")):
                names += MODEL.findall(file.read_text())
    return _matching(names, incomplete)


def _matching(names: Iterable[str], incomplete: str) -> list[str]:
    in_bash = os.environ.get("_LARGEDS_COMPLETE", "").endswith("bash")  # other shells escape spaces in a name
    matching = [name for name in dict.fromkeys(names) if name.startswith(incomplete) and name.isprintable()]
    return [SPECIAL.sub(r"\\\g<0>", name) if in_bash else name for name in matching]


def _given(ctx: typer.Context) -> Iterator[Path]:
    """Existing files and folders among the arguments: those that were parsed, and those that were not yet, as an option
    without its value ends the parsing."""
    for value in (*ctx.params.values(), ctx.args):
        for one in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(one, (str, Path)) and (os.path.isfile(one) or os.path.isdir(one)):
                yield Path(one)


def classes_in(store: Path) -> Iterable[str]:
    if not (store / MANIFEST).is_file():  # a pipe would wait for its writer
        return []
    with open(store / MANIFEST, "rb") as file:
        names = json.loads(file.read(MAX_BYTES))["classes"]
    return names if isinstance(names, list) else []


def columns_in(file: Path) -> Iterable[str]:
    if file.suffix.lower() == ".parquet":
        import pyarrow.parquet as pq

        names: list[str] = pq.read_schema(file).names
        return names
    if file.suffix.lower() == ".csv":
        with open(file, encoding="utf-8-sig", newline="") as lines:
            return [name.strip() for name in next(csv.reader([lines.readline(MAX_LINE)]))]
    return []


def datasets_in(file: Path) -> Iterable[str]:
    if file.suffix.lower() not in (".h5", ".hdf5"):
        return []
    import h5py

    names: list[str] = []

    def visit(name: str, item: Any) -> bool | None:
        if isinstance(item, h5py.Dataset):
            names.append(name)
        return True if len(names) == MOST else None

    with h5py.File(file) as opened:
        opened.visititems(visit)
    return names


CLASSES = proposing(classes_in)
COLUMNS = proposing(columns_in)
DATASETS = proposing(datasets_in)
