"""How commands speak: results on stdout, progress on stderr, plain text where there is no terminal."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console

from largeds_native.units import size as size


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
