"""Another libjpeg than the supported one is refused, or decodes by itself without our Huffman decoder.

The other libjpegs are small libraries of tests/programs/ in front of the real one.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from largeds_native import _C
from tests.builders.images import encode, pixels

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / "tests" / "programs"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("files")
    options: list[dict[str, Any]] = [
        {"subsampling": "4:2:0"},
        {"subsampling": "4:4:4", "restart_marker_blocks": 3},
        {"subsampling": "4:2:2", "optimize": True},
        {"progressive": True},
    ]
    paths = [folder / f"{number}.jpg" for number in range(len(options))]
    for path, given in zip(paths, options, strict=True):
        path.write_bytes(encode(pixels(90, 130), **given))
    return paths


def library(name: str, folder: Path) -> Path:
    """tests/programs/NAME.c, compiled and linked to libjpeg, so that its symbols come first."""
    built = folder / f"{name}.so"
    command = ["cc", "-shared", "-fPIC", "-o", str(built), str(PROGRAMS / f"{name}.c")]
    command += ["-Wl,--no-as-needed", "-ljpeg", "-ldl"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no C compiler here, or no headers of libjpeg")
    return built


def decode_files(paths: list[Path], preload: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAMS / "decode_files.py"), *map(str, paths)]
    search = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": search, **({"LD_PRELOAD": str(preload)} if preload else {})}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)


def outcome(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_this_libjpeg_gives_no_warning(files: list[Path]) -> None:
    assert outcome(decode_files(files))["warnings"] == []


def test_a_library_of_another_abi_fails_the_import(files: list[Path], tmp_path: Path) -> None:
    done = decode_files(files, library("libjpeg_of_another_abi", tmp_path))
    said = done.stderr.splitlines()[-2:]
    assert said[0].startswith("ImportError: largeds_native's C++ core can't be loaded")
    assert f"built with the headers of libjpeg-turbo {_C.codec_versions()['libjpeg-turbo']}, ABI " in said[0]
    assert re.search(r", ABI (\d+), and .*library is 99, caller expects \1", said[0])
    assert "apt-get install --reinstall libjpeg-dev" in said[0]
    assert "pip install --force-reinstall --no-deps largeds-native" in said[1]


@pytest.mark.parametrize("name", ["libjpeg_that_objects", "libjpeg_of_another_layout"])
def test_if_our_decoder_does_not_match_libjpeg_decodes_with_a_warning(
    name: str, files: list[Path], tmp_path: Path
) -> None:
    expected = outcome(decode_files(files))
    found = outcome(decode_files(files, library(name, tmp_path)))
    assert found["pixels"] == expected["pixels"]
    assert len(found["warnings"]) == 1
    assert "does not agree with" in found["warnings"][0]
    assert _C.codec_versions()["libjpeg-turbo"] in found["warnings"][0]
    assert "apt-get install libjpeg-dev" in found["warnings"][0]
