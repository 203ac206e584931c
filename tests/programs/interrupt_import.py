"""Runs a command with Ctrl-C during the import of the command line."""

import sys


class Interrupt:
    def find_spec(self, name: str, *_: object) -> None:
        if name == "largeds_native.cli.app":
            raise KeyboardInterrupt


sys.meta_path.insert(0, Interrupt())  # type: ignore[arg-type]

from largeds_native.cli import main  # noqa: E402

main(["info", "x"])
