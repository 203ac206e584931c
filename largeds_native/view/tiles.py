"""The contents of a contact sheet or a page: rows of pictures with captions."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field

from PIL import Image

LONGEST = 200  # largest number of characters in a caption


@dataclass(frozen=True)
class Tile:
    """A picture, or None if there is nothing to show, and the text under it."""

    picture: Image.Image | None
    caption: str
    note: str = ""


@dataclass(frozen=True)
class TileRow:
    """One image of the store: as stored, and its variants. `source`: the name of its source, "" if it is unknown."""

    tiles: tuple[Tile, ...]
    source: str = ""


@dataclass(frozen=True)
class FailedTile:
    """A sample that failed; its file is the picture if it still exists and can be opened."""

    source: str
    reason: str
    error: str
    picture: Image.Image | None = None


@dataclass
class ContactSheet:
    """All that is shown of a store. `summary` is a line about the images, `failures_summary` one about failures."""

    title: str
    facts: str
    summary: str
    tile_rows: list[TileRow] = field(default_factory=list)
    failed: list[FailedTile] = field(default_factory=list)
    failures_summary: str = ""


def printable(text: object) -> str:
    """Text from a store for display: one line of limited length, without control and bidirectional characters."""
    shown = str(text)[: LONGEST + 1]
    shown = "".join(" " if c.isspace() else c if _harmless(c) else "\ufffd" for c in shown)
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"


def _harmless(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Cn", "Co")
