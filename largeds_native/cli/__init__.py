"""The command `largeds`. One file a command; what they share is in output.py, values.py and guard.py."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 it worked, 1 it failed, 2 it was typed wrongly, 130 after Ctrl-C."""
    from largeds_native.cli.guard import exit_code

    def run() -> None:
        from largeds_native.cli.app import app  # here, for Ctrl-C may come while it is imported

        app(args=list(sys.argv[1:] if arguments is None else arguments), prog_name="largeds")

    sys.exit(exit_code(run))
