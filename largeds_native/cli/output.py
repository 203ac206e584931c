"""How commands speak: results on stdout, progress on stderr, plain text where there is no terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from largeds_native._internal.units import size as size


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leaves the error to guard.py, as print() does; rich would exit with code 1."""
        raise BrokenPipeError


def console() -> Console:
    """For results. Without a terminal, lines are never wrapped or cut: they are for grep and files."""
    return _Console(highlight=False, width=None if sys.stdout.isatty() else 160)


@contextmanager
def progress_line(shown: bool) -> Iterator[Callable[[str], None]]:
    """A function that shows what is being done, on one line; the line is cleared at the end."""
    narrator = Narrator(not shown)
    try:
        yield narrator.progress
    finally:
        narrator.progress("")


class Narrator:
    """What a command says while it works; nothing with `silent`."""

    def __init__(self, silent: bool) -> None:
        self.silent = silent
        self._console = console()

    def step(self, title: str) -> None:
        if not self.silent:
            self._console.print(f"\n{title}", style="bold", markup=False)

    def line(self, text: str) -> None:
        if not self.silent:
            self._console.print(f"   {text}", markup=False, soft_wrap=True)

    def show(self, thing: Any) -> None:
        if not self.silent:
            self._console.print(thing)

    def progress(self, text: str) -> None:
        """Shows what is being done, on one line of the terminal that the next text overwrites."""
        if not self.silent and sys.stderr.isatty():
            print(f"\r\033[K   {text}", end="" if text else "\r", file=sys.stderr, flush=True)


def emit_json(content: Any) -> None:
    print(json.dumps(content, indent=2, default=str))


def print_pairs(pairs: dict[str, object]) -> None:
    """Names and values, one a line."""
    width = max(map(len, pairs))
    for name, value in pairs.items():
        print(f"{name:<{width}}  {value}")
