"""Draws the pictures of speed.md: `python docs/draw.py` writes docs/*.svg. They have no background of their own, and
colours that are legible on white and on black."""

from __future__ import annotations

from html import escape
from pathlib import Path

WIDTH = 520  # as wide as a phone's screen, times 1.4
BATCH = ("#9ec1f7", "#f4c98a", "#a8d8a4", "#d9b8ee")  # of one beside the next
PLAIN, WORK, FREE = "#c9ced6", "#9ec1f7", "none"
INK, LINE = "#1b1f24", "#7a828e"  # text in boxes; lines, and text beside boxes


class Picture:
    def __init__(self, height: int, title: str) -> None:
        self.height, self.title, self.parts = height, title, list[str]()

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        text: str = "",
        fill: str = PLAIN,
    ) -> None:
        dashed = ' stroke-dasharray="4 3"' if fill == FREE else ""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="3" fill="{fill}" '
            f'stroke="{LINE}"{dashed}/>'
        )
        lines = text.split("\n")
        for i, line in enumerate(lines):
            middle = y + height / 2 + 16 * (i - (len(lines) - 1) / 2) + 4.5
            self.text(
                x + width / 2, middle, line, "middle", LINE if fill == FREE else INK
            )

    def text(
        self, x: float, y: float, text: str, anchor: str = "start", fill: str = LINE
    ) -> None:
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{fill}">{escape(text)}</text>'
        )

    def arrow(self, x1: float, y1: float, x2: float, y2: float) -> None:
        self.parts.append(
            f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{LINE}" stroke-width="1.5" '
            'marker-end="url(#tip)"/>'
        )

    def lane(
        self,
        y: float,
        name: str,
        pieces: list[tuple[float, str, str]],
        x: float = 92,
        height: float = 28,
    ) -> None:
        """A thread's time, from left to right: (width, text, fill) of each piece."""
        self.text(x - 8, y + height / 2 + 4.5, name, "end")
        for width, text, fill in pieces:
            self.box(x, y, width, height, text, fill)
            x += width

    def svg(self) -> str:
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{self.height}" '
                f'viewBox="0 0 {WIDTH} {self.height}" role="img" font-family="sans-serif" font-size="13">',
                f"<title>{escape(self.title)}</title>",
                '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" '
                f'orient="auto"><path d="M0 0L8 4L0 8z" fill="{LINE}"/></marker></defs>',
                *self.parts,
                "</svg>\n",
            ]
        )


def packing() -> Picture:
    picture = Picture(
        172, "Threads take a file each, and write its row at its place in the shard"
    )
    lanes = [
        [(0, 150), (4, 120), (6, 146)],
        [(1, 96), (3, 180), (7, 140)],
        [(2, 204), (5, 118), (8, 94)],
    ]
    for i, files in enumerate(lanes):
        pieces = [
            (float(width), f"file {number}", BATCH[number % 4])
            for number, width in files
        ]
        picture.lane(6 + 34 * i, f"thread {i + 1}", pieces)
    picture.text(92, 124, "read, decode the crop's part, resize, write")
    picture.text(84, 152, "shard", "end")
    for row in range(9):
        picture.box(92 + 46.2 * row, 134, 46.2, 28, f"row {row}", BATCH[row % 4])
    return picture


def threads() -> Picture:
    picture = Picture(
        158, "While your loop trains on a batch, threads fill the next ones"
    )
    steps = [(139.0, f"step on batch {n}", BATCH[n - 1]) for n in (1, 2, 3)]
    picture.lane(6, "your loop", steps)
    ends = [(128, 268), (146, 281), (137, 290)]
    for i, (first, second) in enumerate(ends):
        widths = (first, second - first, 417 - second)
        pieces = [
            (float(w), f"rows of batch {4 + n}", BATCH[(3 + n) % 4])
            for n, w in enumerate(widths)
        ]
        picture.lane(48 + 34 * i, f"thread {i + 1}", pieces)
    return picture


def memory() -> Picture:
    picture = Picture(
        262,
        "A row is read once from the mapped file, and written once into the slot of its batch",
    )
    picture.box(8, 8, 150, 46, "images.npy\non disk")
    picture.arrow(158, 31, 214, 31)
    picture.box(
        216,
        8,
        296,
        46,
        "page cache: the same file, mapped;\nread from the disk once",
        "#e3e6eb",
    )
    picture.arrow(364, 54, 364, 134)
    picture.text(354, 78, "one pass: crop, flip, normalise,", "end")
    picture.text(354, 94, "convert, write", "end")
    picture.text(8, 128, "ring of slots")
    slots = [
        ("batch 1\nyours", BATCH[0]),
        ("batch 2\nready", BATCH[1]),
        ("batch 3\nready", BATCH[2]),
    ]
    slots += [("batch 4\nbeing filled", BATCH[3]), ("free", FREE)]
    for i, (text, fill) in enumerate(slots):
        picture.box(8 + 101 * i, 136, 100, 46, text, fill)
    picture.box(8, 216, 100, 38, "your tensors", BATCH[0])
    picture.arrow(58, 216, 58, 184)
    picture.text(122, 230, "hold the slot. When the last one, or the last")
    picture.text(122, 247, "view of one, is gone, the slot is free.")
    return picture


def jpeg_row() -> Picture:
    picture = Picture(212, "Of a JPEG row, only the blocks of the crop become pixels")
    columns, lines, side = 12, 9, 22
    top, bottom, left, right = 3, 7, 4, 9
    passed, read, pixels, rest = "#e3e6eb", BATCH[1], BATCH[0], FREE
    for y in range(lines):
        for x in range(columns):
            if y >= bottom:
                fill = rest
            elif y < top or x >= right:
                fill = passed
            else:
                fill = pixels if x >= left else read
            picture.box(8 + side * x, 8 + side * y, side, side, "", fill)
    legend = [
        (pixels, "the crop: codes are read,", "and become pixels"),
        (read, "left of it: codes are read", ""),
    ]
    legend += [
        (passed, "above and right: passed,", "by restart markers"),
        (rest, "below: not read", ""),
    ]
    y = 16.0
    for fill, first, second in legend:
        picture.box(290, y, side, side, "", fill)
        picture.text(322, y + 15, first)
        picture.text(322, y + 31, second)
        y += 52 if second else 40
    return picture


def device() -> Picture:
    picture = Picture(124, "Copies to the GPU run beside the training step")
    picture.lane(6, "copies", [(60.0, "batch 3", BATCH[2])], x=98)
    picture.lane(6, "", [(60.0, "batch 4", BATCH[3])], x=238)
    picture.lane(6, "", [(60.0, "batch 5", BATCH[0])], x=378)
    steps = []
    for n in (1, 2, 3):
        steps += [(32.0, "n", BATCH[n - 1]), (106.0, f"step {n}", BATCH[n - 1])]
    picture.lane(44, "your stream", steps, x=98)
    picture.text(98, 96, "n: one kernel normalises, converts and changes the layout.")
    picture.text(98, 114, "A batch is copied as uint8, a quarter of float32.")
    return picture


PICTURES = {
    "packing": packing,
    "threads": threads,
    "memory": memory,
    "jpeg-row": jpeg_row,
    "device": device,
}

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (Path(__file__).parent / f"speed-{name}.svg").write_text(draw().svg())
