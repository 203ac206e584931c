"""What docs/errors.md quotes of messages is in the sources, so that the page can't go stale."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from largeds_native._internal.arrays import MASK, PICTURE

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "errors.md").read_text()
REASONS = "## Reasons of failed samples"  # the last part
GAP = "…"  # stands for what a message says of the case at hand
LITERAL = re.compile(r'"((?:[^"\\\n]|\\.)*)"')


def first_columns(tables: str) -> list[str]:
    """The code in the first column of each row."""
    rows = [line for line in tables.splitlines() if line.startswith("| `")]
    return [code for row in rows for code in re.findall(r"`([^`]+)`", row.split(" | ")[0])]


def quoted() -> list[str]:
    """The messages that the tables quote."""
    return first_columns(PAGE.split(REASONS)[0])


def text_of(node: ast.expr) -> str:
    """The text of an expression, where GAP stands for what is known only when it runs."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(map(text_of, node.values))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text_of(node.left) + text_of(node.right)
    return GAP


def of_python(path: Path) -> Iterator[str]:
    """All texts but docstrings."""
    tree = ast.parse(path.read_text())
    said = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Constant, ast.JoinedStr, ast.BinOp)) and node not in said:
            yield text_of(node)


def of_cpp(path: Path) -> Iterator[str]:
    """One text for each statement: its literals, with GAP between them unless they touch."""
    text = re.sub(r"^\s*(//|#include).*", "", path.read_text(), flags=re.MULTILINE)
    end, parts = 0, list[str]()
    for found in LITERAL.finditer(text):
        between = text[end : found.start()]
        if ";" in between and parts:
            yield "".join(parts)
            parts = []
        if parts and between.strip():
            parts.append(GAP)
        parts.append(found[1])
        end = found.end()
    yield "".join(parts)


def normalised(text: str) -> str:
    return re.sub(f"{GAP}+", GAP, " ".join(text.split()))


@cache
def messages() -> str:
    """All texts of the sources, one a line."""
    texts = [text for path in (ROOT / "largeds_native").rglob("*.py") for text in of_python(path)]
    texts += [text for path in (ROOT / "csrc").rglob("*.cpp") for text in of_cpp(path)]
    texts += [text for path in (ROOT / "csrc").rglob("*.h") for text in of_cpp(path)]
    texts += of_python(ROOT / "setup.py")
    return "\n".join(sorted({normalised(text) for text in texts}))


def test_the_page_quotes_messages() -> None:
    assert len(quoted()) >= 60


@pytest.mark.parametrize("message", quoted())
def test_a_quoted_message_is_in_the_sources(message: str) -> None:
    assert normalised(message) in messages()


def test_the_reasons_of_failed_samples_are_those_of_the_sources() -> None:
    """A sample fails for a Reason of the core, or for a reason of the sources of samples."""
    listed = set(first_columns(PAGE.split(REASONS)[1]))
    core = set(re.findall(r'return "(\w+)";', (ROOT / "csrc" / "common" / "error.cpp").read_text()))
    sources = [path.read_text() for path in (ROOT / "largeds_native").rglob("*.py")]
    failed = set(re.findall(r'(?:FailedItem|PixelsError)\(\s*"(\w+)"', "\n".join(sources)))
    never = {"value", "index", "cancelled", "internal"}  # of a call, not of a sample
    sizes = {f"{role}_size" for role in (MASK, PICTURE)}
    assert listed == (core - never) | failed | sizes | {"sixteen_bit"}
