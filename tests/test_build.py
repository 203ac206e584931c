"""What a person sees when the build can't go on: what is missing, and what to type."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def script(path: Path, body: str) -> Path:
    path.write_text("#!/bin/sh\n" + body)
    path.chmod(0o755)
    return path


def test_a_missing_header_names_its_package(tmp_path: Path) -> None:
    compiler = script(tmp_path / "c++", "if grep -q -e jpeglib.h -e xxhash.h; then exit 1; fi\nexit 0\n")
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--build-lib", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "CXX": str(compiler)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode != 0
    assert "apt-get install libjpeg-dev libxxhash-dev" in done.stderr


@pytest.fixture
def bare_path(tmp_path: Path) -> Path:
    """A PATH on which no package is installed, and the user is nobody in particular."""
    for name in ("sh", "grep", "echo"):
        (tmp_path / name).symlink_to(f"/bin/{name}")
    script(tmp_path / "dpkg-query", "exit 1\n")
    script(tmp_path / "id", "echo 1000\n")
    return tmp_path


def system_packages(path: Path) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / "tools" / "system-packages"), "g++", "libpng-dev"]
    return subprocess.run(command, env={"PATH": str(path)}, capture_output=True, text=True, timeout=60)


def test_without_rights_the_command_to_type_is_printed(bare_path: Path) -> None:
    script(bare_path / "apt-get", "echo must not run; exit 1\n")
    done = system_packages(bare_path)
    assert done.returncode == 1
    assert "sudo apt-get install --no-install-recommends -y g++ libpng-dev" in done.stderr
    assert "must not run" not in done.stdout


def test_with_rights_they_are_installed(bare_path: Path) -> None:
    script(bare_path / "id", "echo 0\n")
    script(bare_path / "apt-get", f'echo "$@" >> {bare_path}/log\n')
    done = system_packages(bare_path)
    assert done.returncode == 0, done.stderr
    assert "install --no-install-recommends -y -qq g++ libpng-dev" in (bare_path / "log").read_text()


def test_without_apt_get_they_are_named(bare_path: Path) -> None:
    done = system_packages(bare_path)
    assert done.returncode == 1
    assert "g++ libpng-dev" in done.stderr
