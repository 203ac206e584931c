"""The output of commands: results on stdout, progress on stderr, plain text without a terminal."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from largeds_native._internal.terminal import on_terminal
from largeds_native._internal.units import size as size


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Raises the error for guard.py, as print() does; rich would exit with code 1."""
        raise BrokenPipeError


def console() -> Console:
    """The console for results. Without a terminal its lines are long, for grep and files."""
    return _Console(highlight=False, width=None if sys.stdout.isatty() else 160)


@contextmanager
def progress_line(shown: bool) -> Iterator[Callable[[str], None]]:
    """Yields a function that shows the current work on one line; the line is cleared at the end."""
    narrator = Narrator(not shown)
    try:
        yield narrator.progress
    finally:
        narrator.progress("")


class Narrator:
    """Prints the output of a command while it works; prints nothing with `silent`."""

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
        """Shows the current work on one line of the terminal, which the next call overwrites."""
        if not self.silent and on_terminal():
            print(f"\r\033[K   {text}", end="" if text else "\r", file=sys.stderr, flush=True)


def emit_json(content: Any) -> None:
    print(json.dumps(_without_nan(content), indent=2, default=str))


def _without_nan(content: Any) -> Any:
    """NaN and infinity, which JSON does not have, become null."""
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def print_pairs(pairs: dict[str, object]) -> None:
    """Prints names and values, one pair per line."""
    width = max(map(len, pairs))
    for name, value in pairs.items():
        print(f"{name:<{width}}  {value}")
