"""Runs commands in this process, or in a new one for tests of streams, signals and exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from largeds_native.cli import main
from tests.builders.stores import make_jpeg_store

ROOT = Path(__file__).parents[2]


@pytest.fixture
def largeds(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """largeds("info", path) -> (exit code, stdout, stderr)"""

    def run_command(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return run_command


def start_process(*arguments: object, module: str = "largeds_native", **options: Any) -> subprocess.Popen[str]:
    """`largeds` with these arguments as a process, or `python -m module`; options are those of Popen."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | options.pop("env", {})
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, env=environment, **(streams | options))


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of PNG files, and one file that is not an image."""
    folder = tmp_path_factory.mktemp("tree")
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir()
        for i in range(4):
            pixels = rng.integers(0, 256, (20, 24, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    (folder / "dog" / "broken.jpg").write_bytes(b"not an image")
    return folder


@pytest.fixture
def store(tree: Path, tmp_path: Path) -> Path:
    import largeds_native as lds

    lds.pack(tree, tmp_path / "t.lds", resize=18, crop=16, progress=False)
    return tmp_path / "t.lds"


@pytest.fixture(scope="session")
def jpeg_stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Stores of JPEG rows: 12 images of "many" sizes, and of "one"."""
    folder = tmp_path_factory.mktemp("jpeg")
    sizes = {"many": ((60, 80), (90, 50), (48, 48)), "one": ((60, 80),)}
    return {name: make_jpeg_store(folder, sizes=those, name=f"{name}.lds").path for name, those in sizes.items()}
