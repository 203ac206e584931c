"""The code in the documents runs, their links lead somewhere, and the reference names all that is public."""

from __future__ import annotations

import inspect
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import largeds_native as lds
from largeds_native import errors
from tests.builders.documents import BLOCK, ROOT, blocks, run_block

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders `photos/train` and `photos/val` with two classes, in the working directory."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for name in ("train/cat", "train/dog", "val/cat", "val/dog"):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for i in range(4):
            pixels = random.integers(0, 256, (260 + i, 300, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.jpg")


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_runs(document: Path) -> None:
    namespace = {"__name__": "__main__"}
    for number, (language, code) in enumerate(blocks(document), 1):
        run_block(language, code, f"{document.name}, block {number}", namespace)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", document.read_text()):
        assert (document.parent / target).exists(), f"{document}: {target} is not there"


def test_the_readme_has_code() -> None:
    assert [language for language, _ in blocks(ROOT / "README.md")].count("python") >= 2


REFERENCE = (ROOT / "docs" / "reference.md").read_text()
ERRORS = [name for name, value in vars(errors).items() if isinstance(value, type)]


def test_what_the_reference_names_is_reached_from_a_fresh_import() -> None:
    names = re.findall(r":: largeds_native\.(\S+)$", REFERENCE, re.MULTILINE)
    assert len(names) > 30
    names += [*ERRORS, *(f"errors.{name}" for name in ERRORS)]
    program = [sys.executable, "-W", "error", "-m", "tests.programs.reach", *names]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr


def test_the_reference_has_every_public_name() -> None:
    for name in {*lds.__all__, "open"} - set(ERRORS):
        assert re.search(rf":: largeds_native\.{name}$", REFERENCE, re.MULTILINE), name
        assert getattr(lds, name).__doc__, f"{name} says nothing"
    for name, error in vars(errors).items():
        assert not isinstance(error, type) or error.__doc__, f"{name} says nothing"
    for name in (name for name in dir(lds.Store) if not name.startswith("_")):
        assert getattr(lds.Store, name).__doc__, f"Store.{name} says nothing"


@pytest.mark.parametrize("public", [lds.pack, lds.Loader, lds.Trainer])
def test_help_describes_the_arguments_in_the_order_of_the_signature(public: Callable[..., object]) -> None:
    entries = re.findall(r"^([a-z]\w*(?:, [a-z]\w*)*): ", inspect.getdoc(public) or "", re.MULTILINE)
    assert [name for entry in entries for name in entry.split(", ")] == list(inspect.signature(public).parameters)


FUNCTIONS = [f"lds.{name}" for name in (*lds.__all__, "open") if name not in (*ERRORS, "Store")]
FUNCTIONS += [
    f"lds.sources.{name}" for name in ("folder", "table", "tar", "arrays", "dataset", "encoded", "hugging_face")
]
FUNCTIONS += ["lds.Store.gather", "lds.interchange.export_hdf5", "lds.packing.verify_sources", "lds.trainer.EMA"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_help_names_every_argument(name: str) -> None:
    function = attrgetter(name.removeprefix("lds."))(lds)
    for argument, kind in inspect.signature(function).parameters.items():
        if argument != "self" and kind.kind not in (kind.VAR_POSITIONAL, kind.VAR_KEYWORD):
            assert re.search(rf"\b{argument}\b", inspect.getdoc(function) or ""), argument


def test_the_pictures_are_those_that_the_script_draws() -> None:
    drawn = runpy.run_path(str(ROOT / "docs" / "draw.py"))
    for name, draw in drawn["PICTURES"].items():
        assert (ROOT / "docs" / f"speed-{name}.svg").read_text() == draw().svg(), f"type: python docs/draw.py ({name})"


WIDEST = 88  # columns of a box of code beside the sidebar, on a screen of 1280 pixels
PAGES = [page for page in DOCUMENTS[1:] if page.stem not in ("design", "performance")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_fits_its_box(page: Path) -> None:
    text = page.read_text()
    indented = re.findall(r"(?<=\n\n)(?: {4}.*\n|\n)+", BLOCK.sub("", text))
    code = [line for _, block in BLOCK.findall(text) for line in block.splitlines()]
    code += [line[4:] for block in indented for line in block.splitlines()]
    assert [line for line in code if len(line) > WIDEST] == []
