"""The code in the documents: the blocks of a document in order, in one namespace and in the working folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\S+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(document: Path) -> list[tuple[str, str]]:
    """(language, code) of each block."""
    return BLOCK.findall(document.read_text())


def run_block(language: str, code: str, name: str, namespace: dict[str, Any]) -> None:
    """`name` is the file in tracebacks; blocks that are not code, as a toctree, are not run."""
    if language == "python":
        exec(compile(code, name, "exec"), namespace)
    elif language == "bash":
        _run_in_shell(code)
    else:
        assert language in ("{toctree}", "{eval-rst}"), f"{name}: a block of {language} is not run"


def _run_in_shell(code: str) -> None:
    """With `largeds` of this checkout."""
    largeds = f'largeds() {{ "{sys.executable}" -m largeds_native "$@"; }}\n'
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-e"], input=largeds + code, text=True, capture_output=True, env=environment)
    assert done.returncode == 0, f"{code}\n{done.stderr}"
