"""Configuration of Sphinx. `make docs` builds build/docs/index.html; warnings are errors."""

from __future__ import annotations

import re
from typing import Any

from sphinx.pycode import ModuleAnalyzer

import largeds_native

project = "largeds_native"
author = copyright = "The largeds_native authors"
version = release = "0.1.0"
html_theme = "furo"
html_title = "largeds_native"
smartquotes = False  # quotes in docstrings belong to Python code

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",  # some docstrings have Google's sections
    "sphinx.ext.viewcode",  # [source] beside every name
]
myst_heading_anchors = 3
autodoc_default_options = {"member-order": "bysource"}
autodoc_typehints = "signature"
python_maximum_signature_line_length = 88  # longer ones have one parameter a line
napoleon_include_init_with_doc = False

SECTION = re.compile(r"(Args|Returns|Raises|Yields|Attributes):$")
HEADING = re.compile(r"[A-Z][\w ,]*:$")
ENTRY = re.compile(r"[a-z_]\w*(, [a-z_]\w*)*: ")
# classes whose objects only the package makes: their constructors are not shown
MADE_HERE = re.compile(
    r"largeds_native\.(Store$|store\.\w*Store$|store\.\w+\.(Report|Verification)$|packing\.Plan$"
    r"|trainer\.(Group|StepResult|TrainingRun)$)"
)
LITERAL = re.compile(r"`([^`]+)`(\w?)")


def to_rst(lines: list[str]) -> list[str]:
    """Converts docstrings, which are plain text with `name: description` entries and `code`, to reStructuredText.

    An entry, with its indented continuation lines, becomes a list item; a line as "Rows:" is the heading of a group of
    entries; characters that are markup by accident are escaped. Google's sections and examples (`>>>`) are not changed.
    """
    out: list[str] = []
    in_section = False
    for line in lines:
        indented = line.startswith("    ")
        in_section = bool(SECTION.match(line)) or (
            in_section and (indented or not line)
        )
        text = _escape(line)
        if in_section or not line:
            out.append(text)
        elif line.startswith((">>>", "...")):
            out.append(line)
        elif HEADING.match(line):
            out.append(f".. rubric:: {text[:-1]}")
        elif ENTRY.match(line):
            name, rest = text.split(": ", 1)
            if out and out[-1] and not out[-1].startswith(("*", "  ")):
                out.append("")
            out.append(f"* **{name}**: {rest}")
        elif indented:
            out.append(
                "  " + text.lstrip()
                if out and out[-1].startswith(("*", "  "))
                else text.lstrip()
            )
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
    return re.sub(
        r"(\w)_(?!\w)",
        r"\1\\_",
        text.replace("\\", "\\\\").replace("*", r"\*").replace("|", r"\|"),
    )


def process(
    app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
    lines[:] = to_rst(lines)


def hide_constructor(
    app: Any, what: str, name: str, *rest: Any
) -> tuple[str, None] | None:
    return ("", None) if MADE_HERE.match(name) else None


def setup(app: Any) -> None:
    for name in largeds_native.__all__:  # they are lazy, and autodoc needs the objects
        getattr(largeds_native, name)
    overloaded = ModuleAnalyzer.for_module("largeds_native.packing.decoding")
    overloaded.analyze()
    overloaded.overloads.clear()  # of decode_batch: its arguments are the same, but would fill two screens
    app.connect("autodoc-process-signature", hide_constructor)
    app.connect("autodoc-process-docstring", process, priority=100)  # before napoleon's
