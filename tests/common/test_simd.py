"""LARGEDS_SIMD selects the kernels of resizing, converting and hashing, without changing pixels."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from largeds_native import _C

ROOT = Path(__file__).parent.parent.parent
# what compares packed and gathered pixels with Pillow and with slow references, bit for bit
COMPARISONS = ["tests/resize/test_resize.py", "tests/codec/test_rows.py", "tests/loading/test_gather.py"]


def python_with_simd(choice: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LARGEDS_SIMD": choice}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)


@pytest.mark.skipif(_C.simd() != _C.supported_simd()[-1], reason="these tests run with other kernels already")
@pytest.mark.parametrize("choice", _C.supported_simd()[:-1])
def test_a_processor_with_fewer_kernels_gets_the_same_pixels(choice: str) -> None:
    assert python_with_simd(choice, "-m", "tests.programs.print_simd").stdout == f"{choice}\n"
    done = python_with_simd(choice, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:benchmark", *COMPARISONS)
    assert done.returncode == 0, done.stdout


def test_an_unknown_choice() -> None:
    said = python_with_simd("sse9", "-m", "tests.programs.print_simd").stderr
    assert "LARGEDS_SIMD: expected scalar" in said
    assert "found 'sse9'. Unset it" in said
    assert "pip install" not in said
