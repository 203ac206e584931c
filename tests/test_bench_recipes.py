"""`benchmarks/bench_recipes.py` runs a page, and writes into it what it took."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.builders.documents import ROOT
from tests.builders.trees import make_tree

SCRIPT = ROOT / "benchmarks" / "bench_recipes.py"
PAGE = """# A page

```python
import largeds_native as lds

store = lds.pack("photos/train", "train.lds")
for images, labels in lds.Loader(store, 5):
    pass
for batch in lds.Loader(store, 5, names={"image": "pixels"}):
    break
```

What to know:

- Nothing.
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    if not SCRIPT.exists():
        pytest.skip("the benchmarks are in a checkout")
    make_tree(tmp_path / "photos" / "train", classes=2, each=6)
    (tmp_path / "page.md").write_text(PAGE)
    return tmp_path / "page.md"


def test_times_of_a_page(page: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--in-this-folder", str(page)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=page.parent, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    times: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert times["images"] == 12 + 5
    assert 0 <= times["packing"] + times["loops"] <= times["all"] + 0.02  # each is rounded


def test_a_page_has_one_sentence_of_its_times(monkeypatch: pytest.MonkeyPatch) -> None:
    if not SCRIPT.exists():
        pytest.skip("the benchmarks are in a checkout")
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import bench_recipes

    facts = {"processor": "Some CPU (AVX-512)", "threads": "2"}
    times = {"all": 12.3, "packing": 2.04, "loops": 4.0, "images": 1000}
    said = bench_recipes.sentence(times, facts)
    assert said.replace("\n", " ") == (
        "On the demo's 1,000 images (2 cores, Some CPU with AVX-512) this page takes 12 s: packing 2.0 s, its loops "
        "over loaders 4.0 s (250 images/s). `benchmarks/bench_recipes.py` times it."
    )
    written = bench_recipes.with_sentence(PAGE, bench_recipes.sentence(times | {"images": 0}, facts))
    assert bench_recipes.with_sentence(written, said) == PAGE.replace("What to", said + "\n\nWhat to")
    for recipe in bench_recipes.PAGES:
        assert recipe.read_text().count("\nWhat to know:\n") == 1, recipe
