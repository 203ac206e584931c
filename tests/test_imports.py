"""tools/check-imports: circles among modules, and imports against the order of the package's folders."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parent.parent / "tools" / "check-imports"


def check_imports(folder: Path, files: dict[str, str]) -> list[str]:
    """The lines that the tool prints for a package of these files, with an empty __init__.py in each folder."""
    for name, text in files.items():
        path = folder / "largeds_native" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for package in (path.parent, folder / "largeds_native"):
            (package / "__init__.py").touch()
        path.write_text(text)
    done = subprocess.run([sys.executable, TOOL, folder], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.returncode == bool(done.stdout)
    return done.stdout.splitlines()


def test_imports_in_order_are_fine(tmp_path: Path) -> None:
    files = {
        "errors.py": "import os.path\n",
        "__init__.py": "from largeds_native import loading, store as store\nfrom largeds_native.errors import Error\n",
        "store/__init__.py": "from largeds_native.store.npy import read as read\n",
        "store/npy.py": "from largeds_native import _C\nfrom .. import errors\n",
        "loading/__init__.py": "import largeds_native.store.npy\nfrom largeds_native.store import npy, read\n",
    }
    assert check_imports(tmp_path, files) == []


@pytest.mark.parametrize(
    "imports",
    [
        "from largeds_native.store import b\n",
        "import largeds_native.store.b\n",
        "from . import b\n",
        "from .b import name\n",
        "def later():\n    from largeds_native.store import b\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from largeds_native.store.b import B\n",
    ],
)
def test_a_circle_is_found(tmp_path: Path, imports: str) -> None:
    (line,) = check_imports(tmp_path, {"store/a.py": imports, "store/b.py": "from largeds_native.store.a import x\n"})
    assert line == "a circle of 2 modules: largeds_native.store.a, largeds_native.store.b"


def test_a_module_in_a_circle_with_its_own_package(tmp_path: Path) -> None:
    files = {"store/__init__.py": "from .npy import read\n", "store/npy.py": "from largeds_native.store import Store\n"}
    assert check_imports(tmp_path, files) == ["a circle of 2 modules: largeds_native.store, largeds_native.store.npy"]


@pytest.mark.parametrize(
    ("file", "imports", "problem"),
    [
        (
            "store/a.py",
            "import os\n\nimport largeds_native.loading.b\n",
            ":3: store imports loading, which comes after it",
        ),
        ("store/a.py", "from ..loading import b\n", ":1: store imports loading, which comes after it"),
        ("store/a.py", "import largeds_native as lds\n", ":1: store imports the facade, which comes after it"),
        ("cli/a.py", "from largeds_native import Loader\n", ":1: cli imports the facade, which comes after it"),
        ("store/a.py", "from largeds_native.gone import x\n", ":1: imports largeds_native.gone, which does not exist"),
        ("new/a.py", "", ": new is not in the order of check-imports: say what it may import"),
    ],
)
def test_a_wrong_import_is_found(tmp_path: Path, file: str, imports: str, problem: str) -> None:
    lines = check_imports(tmp_path, {"loading/b.py": "", file: imports})
    assert f"largeds_native/{file}{problem}" in lines
