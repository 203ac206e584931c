"""Runs a command that prints `ready` and waits for a minute instead of calling a function.

python -m tests.programs.wait_in_command MODULE FUNCTION COMMAND ARGUMENTS...
"""

import importlib
import signal
import sys
import time


def wait(*_: object, **__: object) -> None:
    print("ready", flush=True)
    time.sleep(60)


module, function, *command = sys.argv[1:]
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
setattr(importlib.import_module(module), function, wait)

from largeds_native.cli import main  # noqa: E402

main(command)
