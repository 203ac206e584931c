"""The command `largeds`. Each command has its own file; shared code is in output.py, values.py and guard.py."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 on success, 1 on failure, 2 on a usage error, 130 after Ctrl-C."""
    from largeds_native.cli.guard import exit_code

    def run() -> None:
        from largeds_native.cli.app import app  # here, so that Ctrl-C during the import is handled too

        app(args=list(sys.argv[1:] if arguments is None else arguments), prog_name="largeds")

    sys.exit(exit_code(run))
