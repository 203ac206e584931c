"""How commands speak: results on stdout, progress on stderr, plain text where there is no terminal."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console


def console() -> Console:
    """Of results. Without a terminal, lines are never wrapped or cut: they are for grep and files."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def emit_json(content: Any) -> None:
    print(json.dumps(content, indent=2, default=str))


def facts(pairs: dict[str, object]) -> None:
    """Names and values, one a line."""
    width = max(map(len, pairs))
    for name, value in pairs.items():
        print(f"{name:<{width}}  {value}")


def size(n: float) -> str:
    """Bytes for people, in powers of ten."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n < 1000 or unit == "TB":
            return f"{n:,.0f} {unit}" if unit == "B" else f"{n:,.1f} {unit}"
        n /= 1000
    raise AssertionError
