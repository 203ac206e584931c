"""Sphinx's configuration. `make docs` builds build/docs/index.html, and a warning is an error."""

from __future__ import annotations

import re
from typing import Any

import largeds_native

project = "largeds_native"
author = copyright = "The largeds_native authors"
version = release = "0.1.0"
html_theme = "furo"
html_title = "largeds_native"
smartquotes = False  # quotes in our docstrings are Python's

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",  # the trainer's docstrings have Google's sections
    "sphinx.ext.viewcode",  # [source] beside every name
]
myst_heading_anchors = 3
autodoc_default_options = {"member-order": "bysource"}
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
napoleon_include_init_with_doc = False

SECTION = re.compile(r"(Args|Returns|Raises|Yields|Attributes):$")
ENTRY = re.compile(r"[a-z_]\w*(, [a-z_]\w*)*: ")
LITERAL = re.compile(r"`([^`]+)`(\w?)")


def to_rst(lines: list[str]) -> list[str]:
    """Our docstrings are prose for `help()`: `name: what it is`, indented lines that go on, and `code`.

    Made reStructuredText here: an entry becomes an item of a list, and what would be markup by chance is escaped.
    Google's sections keep their shape.
    """
    out: list[str] = []
    in_section = False
    for line in lines:
        indented = line.startswith("    ")
        in_section = bool(SECTION.match(line)) or (in_section and (indented or not line))
        text = _escape(line)
        if in_section or not line:
            out.append(text)
        elif ENTRY.match(line):
            name, rest = text.split(": ", 1)
            if out and out[-1] and not out[-1].startswith(("*", "  ")):
                out.append("")
            out.append(f"* **{name}**: {rest}")
        elif indented:
            out.append("  " + text.lstrip() if out and out[-1].startswith(("*", "  ")) else text.lstrip())
        else:
            if out and out[-1].startswith(("* ", "  ")):
                out.append("")
            out.append(text)
    return out


def _escape(line: str) -> str:
    parts, end = [], 0
    for match in LITERAL.finditer(line):
        parts.append(_plain(line[end : match.start()]))
        parts.append(f"``{match[1]}``" + (f"\\ {match[2]}" if match[2] else ""))
        end = match.end()
    return "".join([*parts, _plain(line[end:])])


def _plain(text: str) -> str:
    return re.sub(r"(\w)_(?!\w)", r"\1\\_", text.replace("\\", "\\\\").replace("*", r"\*").replace("|", r"\|"))


def process(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    lines[:] = to_rst(lines)


def setup(app: Any) -> None:
    for name in largeds_native.__all__:  # they are lazy: what is documented must be there to be looked at
        getattr(largeds_native, name)
    app.connect("autodoc-process-docstring", process, priority=100)  # before napoleon's
