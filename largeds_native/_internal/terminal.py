"""Whether somebody watches."""

from __future__ import annotations

import sys


def on_terminal() -> bool:
    """Whether stderr is a terminal. A service may have none, or one that is closed."""
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:
        return False
