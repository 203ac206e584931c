"""Bars of copies and verifications: on a terminal, with units; nothing in pipes."""

from __future__ import annotations

import json
import os
import pty
import re
from pathlib import Path

import pytest

from tests.builders.stores import make_labelled_store
from tests.builders.terminal import read_to_the_end
from tests.cli.conftest import start_process


@pytest.fixture
def commands(tmp_path: Path) -> str:
    """push, verify and pull of a store of 20 images, for tests.programs.run_commands."""
    make_labelled_store(tmp_path, 20, 16, shard_bytes=8 * 3 * 16 * 16)
    store, url = str(tmp_path / "s.lds"), "memory://progress/s.lds"
    return json.dumps({"push": [store, url], "verify": [store], "pull": [url, str(tmp_path / "p.lds")]})


def test_on_a_terminal(commands: str) -> None:
    ours, theirs = pty.openpty()
    environment = {"TERM": "xterm", "COLUMNS": "120"}
    program = ("0", "shown", commands)
    with start_process(*program, module="tests.programs.run_commands", stderr=theirs, env=environment) as process:
        os.close(theirs)
        seen = read_to_the_end(ours)
        out, _ = process.communicate(timeout=100)
    os.close(ours)
    assert {code for code, _ in json.loads(out.partition("FOUND")[2]).values()} == {0}
    shown = re.sub(r"\x1b\[[\d;?]*\w", "", seen.decode())
    for bar in (r"pushing .* ([\d.]+)/\1 kB", r"pulling .* ([\d.]+)/\1 kB", "verifying .* 20/20"):
        assert re.search(bar, shown), shown


def test_in_pipes(commands: str) -> None:
    with start_process("0", "shown", commands, module="tests.programs.run_commands") as process:
        out, err = process.communicate(timeout=100)
    assert err == ""
    assert "pushing" not in out
