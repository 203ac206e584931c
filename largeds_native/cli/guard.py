"""Turns errors of commands into one sentence on stderr and an exit code, instead of a traceback."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import typer

from largeds_native.errors import LargedsError

P = ParamSpec("P")
R = TypeVar("R")

FAILURE, INTERRUPTED, BROKEN_PIPE = 1, 130, 141


def with_exit_code(command: Callable[P, R]) -> Callable[P, R]:
    """Wraps the function of a command: expected exceptions become a sentence on stderr and a `typer.Exit`."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except BrokenPipeError:
            silence(sys.stdout)
            raise typer.Exit(BROKEN_PIPE) from None
        except KeyboardInterrupt as stop:
            print_error(str(stop) or "stopped")
            raise typer.Exit(INTERRUPTED) from None
        except (LargedsError, OSError) as error:
            print_error(_one_line(error))
            raise typer.Exit(FAILURE) from None
        except MemoryError as error:
            print_error(f"not enough memory: {error}")
            raise typer.Exit(FAILURE) from None
        except ModuleNotFoundError as error:
            print_error(f"the package {error.name!r} is not installed; type: pip install 'largeds-native[demo]'")
            raise typer.Exit(FAILURE) from None

    return run


def exit_code(run: Callable[[], object]) -> int:
    """Runs the application and returns its exit code. Flushes stdout here, where a broken pipe can be handled."""
    code = 0
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # names that the terminal's encoding lacks
    try:
        run()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        print_error("stopped")
        code = INTERRUPTED
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        silence(sys.stdout)
        code = code or BROKEN_PIPE
    return code


def print_error(sentence: str) -> None:
    try:
        print(f"largeds: {sentence}", file=sys.stderr, flush=True)
    except OSError:
        silence(sys.stderr)


def _one_line(error: BaseException) -> str:
    said = str(error)
    if isinstance(error, OSError) and error.strerror:  # without "[Errno 2] "
        said = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(said.split()) or type(error).__name__


def silence(stream: object) -> None:
    """Redirects the stream to /dev/null, so that the interpreter's last flush reports no error."""
    try:
        descriptor = stream.fileno()  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)
