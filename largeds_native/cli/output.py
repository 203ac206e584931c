"""How commands speak: results on stdout, progress on stderr, plain text where there is no terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from largeds_native.units import size as size


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Left to guard.py, as for what is printed: rich would end with 1."""
        raise BrokenPipeError


def console() -> Console:
    """Of results. Without a terminal, lines are never wrapped or cut: they are for grep and files."""
    return _Console(highlight=False, width=None if sys.stdout.isatty() else 160)


@contextmanager
def noted(shown: bool) -> Iterator[Callable[[str], None]]:
    """A function that says what is being done, on one line of the terminal that is overwritten and gone at the end."""
    if not (shown and sys.stderr.isatty()):
        yield lambda text: None
        return
    with Console(stderr=True).status("") as status:
        yield lambda text: status.update(text)


def emit_json(content: Any) -> None:
    print(json.dumps(content, indent=2, default=str))


def facts(pairs: dict[str, object]) -> None:
    """Names and values, one a line."""
    width = max(map(len, pairs))
    for name, value in pairs.items():
        print(f"{name:<{width}}  {value}")
