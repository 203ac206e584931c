"""The code in the documents runs, in the order in which it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks() -> list[tuple[str, str]]:
    return [
        (f"{path.name}:{number}", code)
        for path in DOCUMENTS
        for number, code in enumerate(BLOCK.findall(path.read_text()), 1)
    ]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder `photos/train` with two classes, in the working directory."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        folder = tmp_path / "photos" / "train" / name
        folder.mkdir(parents=True)
        for i in range(4):
            pixels = random.integers(0, 256, (260 + i, 300, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.jpg")


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(("where", "code"), blocks(), ids=[name for name, _ in blocks()])
def test_code_runs(where: str, code: str) -> None:
    exec(compile(code, where, "exec"), {"__name__": "__main__"})


def test_the_readme_has_code() -> None:
    assert any(name.startswith("README.md") for name, _ in blocks())
