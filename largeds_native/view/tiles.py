"""What is shown, whether on a sheet or on a page: pictures with captions, in rows that belong together."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field

from PIL import Image

LONGEST = 200  # characters of a caption


@dataclass(frozen=True)
class Tile:
    """A picture (None: there is nothing to see) and what stands under it."""

    picture: Image.Image | None
    caption: str
    note: str = ""


@dataclass(frozen=True)
class TileRow:
    """One image of the store: as stored, and augmented. `source`: where it came from, "" if that is not known."""

    tiles: tuple[Tile, ...]
    source: str = ""


@dataclass(frozen=True)
class FailedTile:
    """A sample that is not in the store; its file as a picture where it is still there and can be opened."""

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
    """Text of a store for people's eyes: one line, cut, no characters that steer a terminal or turn the direction."""
    shown = str(text)[: LONGEST + 1]
    shown = "".join(" " if c.isspace() else c if _harmless(c) else "\ufffd" for c in shown)
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"


def _harmless(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Cn", "Co")
