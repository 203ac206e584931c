"""Runs commands one after the other in one process, since imports take most of the time.

python -m tests.programs.run_commands USER shown|captured COMMANDS_AS_JSON

COMMANDS is {name: [arguments]}. With a USER other than 0 the process becomes that user first. Prints FOUND and, as
JSON, {name: [exit code, what it wrote to stderr]}.
"""

import contextlib
import io
import json
import os
import sys

from largeds_native.cli import main


def import_everything(commands: dict[str, list[str]]) -> None:
    """Runs each command on a missing store, so that it imports its modules before the change to another user, who may
    not read the interpreter's files. The demo reads nothing and would start, so its modules are imported by name."""
    import fractions  # noqa: F401

    import skimage  # noqa: F401
    import sklearn  # noqa: F401

    import largeds_native.cli.demo_digits
    import largeds_native.cli.demo_speed  # noqa: F401

    with contextlib.redirect_stderr(io.StringIO()):
        for name, arguments in commands.items():
            if name != "demo":
                with contextlib.suppress(SystemExit):
                    main([name, "/absent/s.lds", *arguments[1:]])


user, shown, commands = int(sys.argv[1]), sys.argv[2] == "shown", json.loads(sys.argv[3])
if user:
    import_everything(commands)
    os.setgid(user)
    os.setuid(user)
found = {}
for name, arguments in commands.items():
    err = io.StringIO()
    with contextlib.nullcontext() if shown else contextlib.redirect_stderr(err):
        try:
            main([name, *arguments])
        except SystemExit as end:
            found[name] = (end.code, err.getvalue())
print("FOUND" + json.dumps(found), flush=True)
