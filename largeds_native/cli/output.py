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
        """Left to guard.py, as for what is printed: rich would end with 1."""
        raise BrokenPipeError


def console() -> Console:
    """Of results. Without a terminal, lines are never wrapped or cut: they are for grep and files."""
    return _Console(highlight=False, width=None if sys.stdout.isatty() else 160)


@contextmanager
def noted(shown: bool) -> Iterator[Callable[[str], None]]:
    """A function that says what is being done; what it said is gone at the end."""
    narrator = Narrator(not shown)
    try:
        yield narrator.note
    finally:
        narrator.note("")


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

    def note(self, text: str) -> None:
        """What is being done, on one line of the terminal that is overwritten."""
        if not self.silent and sys.stderr.isatty():
            print(f"\r\033[K   {text}", end="" if text else "\r", file=sys.stderr, flush=True)


def emit_json(content: Any) -> None:
    print(json.dumps(content, indent=2, default=str))


def facts(pairs: dict[str, object]) -> None:
    """Names and values, one a line."""
    width = max(map(len, pairs))
    for name, value in pairs.items():
        print(f"{name:<{width}}  {value}")
