"""Files and targets named in CI and in the documents exist. (`make lint` checks the syntax of the workflows.)"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = [ROOT / ".ci" / "run", ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "pyproject.toml"]
FILES += sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_named_files_exist(file: Path) -> None:
    text = file.read_text()
    targets = set(re.findall(r"^([a-z][\w-]*):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for target in re.findall(r"(?:^\s*|`|run: )make ([a-z][\w-]*)", text, re.MULTILINE):
        assert target in targets, f"{file.name}: make {target}"
    for script in re.findall(r"(?<![\w/])((?:tools|\.ci)/[\w-]+)", text):
        assert os.access(ROOT / script, os.X_OK), f"{file.name}: {script}"


def test_wheels_are_built_for_every_supported_python() -> None:
    wheels = (ROOT / ".github" / "workflows" / "wheels.yml").read_text()
    assert 'build = "cp3{10,11,12,13,14}-manylinux_*"' in (ROOT / "pyproject.toml").read_text()
    assert all(f'"3.{minor}"' in wheels for minor in (10, 11, 12, 13, 14))
    assert "arch: x86_64" in wheels
    assert "arch: aarch64" in wheels
