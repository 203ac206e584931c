"""Draws the contact sheet: a heading, and lines of tiles with captions under them."""

from __future__ import annotations

import io
import textwrap
from dataclasses import dataclass
from functools import cache
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from largeds_native.view.pixels import fitted
from largeds_native.view.tiles import ContactSheet, FailedTile, Tile, TileRow

SIDE, GAP, MARGIN = 160, 12, 24  # pixels
ACROSS = 8, 10  # tiles per line, for single images and for rows of several tiles
LINE = 18
PAPER, INK, FAINT, FRAME, ALARM = "#ffffff", "#1c1f24", "#6b7280", "#e5e7eb", "#b42318"


@cache
def _font(size: int) -> Any:
    """DejaVu Sans, which has many alphabets, if the system has it, or else Pillow's font."""
    try:
        return ImageFont.truetype("DejaVuSans.ttf", size)
    except OSError:
        return ImageFont.load_default(size)


def sheet_png(sheet: ContactSheet, size: tuple[int, int]) -> bytes:
    """The sheet as the bytes of a PNG file; `size` is the (height, width) of the images of the store, or (1, 1) where
    they have many: then each is shown whole in a square."""
    cells = [_row_cells(tile_row) for tile_row in sheet.tile_rows] or [
        [_failed_cell(failed)] for failed in sheet.failed
    ]
    box = _box(size) if sheet.tile_rows else (SIDE, SIDE)
    texts = max((len(cell.lines) for tile_row in cells for cell in tile_row), default=0)
    cell_width, cell_height = box[0], box[1] + 6 + LINE * texts
    long = max(map(len, cells), default=1)
    across = max(1, min(ACROSS[long > 1] // long, len(cells)))
    # the gap between rows of tiles is larger than that between the tiles of a row
    between = GAP if long == 1 else 3 * GAP
    row_width = long * cell_width + (long - 1) * GAP
    width = max(2 * MARGIN + across * row_width + (across - 1) * between, 640)
    top = MARGIN + 28 + 2 * LINE + GAP
    lines = -(-len(cells) // across)
    image = Image.new("RGB", (width, top + lines * (cell_height + GAP) + MARGIN - GAP), PAPER)
    draw = ImageDraw.Draw(image)
    _heading(draw, sheet, width - 2 * MARGIN)
    for i, tile_row in enumerate(cells):
        y = top + (i // across) * (cell_height + GAP)
        left = MARGIN + (i % across) * (row_width + between)
        for j, cell in enumerate(tile_row):
            _draw_cell(image, draw, cell, (left + j * (cell_width + GAP), y), box)
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=False)
    return stream.getvalue()


@dataclass(frozen=True)
class _Cell:
    """A picture, and the lines under it with their colours."""

    picture: Image.Image | None
    lines: list[tuple[str, str]]
    from_end: bool = False  # long lines keep their end, which tells more about a path


def _row_cells(tile_row: TileRow) -> list[_Cell]:
    return [_tile_cell(tile, i) for i, tile in enumerate(tile_row.tiles)]


def _tile_cell(tile: Tile, index: int) -> _Cell:
    lines = [(tile.caption, INK if index == 0 else FAINT)]
    return _Cell(tile.picture, [*lines, (tile.note, FAINT)] if tile.note else lines)


def _failed_cell(failed: FailedTile) -> _Cell:
    error = textwrap.wrap(failed.error, 24)[:3]
    lines = [(failed.source, INK), (failed.reason, ALARM), *((line, FAINT) for line in error)]
    return _Cell(failed.picture, lines, from_end=True)


def _box(size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of the box of a picture: the aspect of the images, within limits."""
    scale = SIDE / max(size)
    return max(SIDE // 2, round(size[1] * scale)), max(SIDE // 4, round(size[0] * scale))


def _heading(draw: ImageDraw.ImageDraw, sheet: ContactSheet, width: int) -> None:
    draw.text((MARGIN, MARGIN - 4), _shortened(sheet.title, width, 20), INK, _font(20))
    for i, line in enumerate((sheet.facts, sheet.summary or sheet.failures_summary)):
        draw.text((MARGIN, MARGIN + 26 + i * LINE), _shortened(line, width, 13), FAINT, _font(13))


def _draw_cell(
    image: Image.Image, draw: ImageDraw.ImageDraw, cell: _Cell, at: tuple[int, int], box: tuple[int, int]
) -> None:
    x, y = at
    if cell.picture is None:
        draw.rectangle((x, y, x + box[0] - 1, y + box[1] - 1), "#f6f7f9", FRAME)
        draw.text((x + box[0] / 2, y + box[1] / 2), "no picture", FAINT, _font(13), anchor="mm")
    else:
        picture = fitted(cell.picture, *box)
        image.paste(picture, (x + (box[0] - picture.width) // 2, y + (box[1] - picture.height) // 2))
    for i, (text, colour) in enumerate(cell.lines):
        shown = _shortened(text, box[0], 12, from_end=cell.from_end and i == 0)
        draw.text((x, y + box[1] + 4 + i * LINE), shown, colour, _font(12))


def _shortened(text: str, width: int, size: int, from_end: bool = False) -> str:
    """The text, shortened with an ellipsis if it is wider than `width` pixels."""
    font = _font(size)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[1:] if from_end else text[:-1]
    return "…" + text if from_end else text + "…"
