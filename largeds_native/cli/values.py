"""Options shared by several commands, and parsers for their values: sizes, byte counts, lists of numbers."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from largeds_native.transform import Augment


class Layout(str, Enum):
    CHW = "CHW"
    HWC = "HWC"


BATCH_SIZE = Annotated[int, typer.Option("--batch-size", "-b", min=1, help="Images in a batch.")]
DEVICE = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; default: cuda if available.")]
JSON = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
QUIET = Annotated[bool, typer.Option("--quiet", "-q", help="Print neither progress nor report.")]
THREADS = Annotated[
    int | None,
    typer.Option("--threads", "-t", min=1, max=1024, help="Default: all processors that this process may use."),
]
RESIZE = Annotated[
    str | None,
    typer.Option(
        "--resize",
        help="Resize images to this shorter side (default 256), height x width (224x160), or none. It follows --crop. "
        "With --codec jpeg: shrink images whose shorter side is longer (default none).",
    ),
]
CROP = Annotated[
    str | None,
    typer.Option(
        "--crop",
        help="Centre crop to this side (default 224), height x width, or none. It follows --resize.",
    ),
]
SHARD_BYTES = Annotated[str, typer.Option("--shard-bytes", help="Largest size of a shard: 65536, 512M, 1G.")]
ROWS = Annotated[str | None, typer.Option("--rows", help="Only these, in this order: 0-99,200")]
# the arguments of Augment
FLIP = Annotated[float, typer.Option("--flip", min=0, max=1, help="Augment: probability of a horizontal flip.")]
VERTICAL_FLIP = Annotated[
    float, typer.Option("--vertical-flip", min=0, max=1, help="Augment: probability of a vertical flip.")
]
RANDOM_CROP = Annotated[
    str | None, typer.Option("--random-crop", help="Augment: random crop of this side, or height x width.")
]
PADDING = Annotated[
    int, typer.Option("--padding", min=0, help="Augment: pad with this many zero pixels before --random-crop.")
]
RESIZED_CROP = Annotated[
    str | None,
    typer.Option("--resized-crop", help="Augment: crop of random area and aspect ratio, resized to this size."),
]
SEED = Annotated[int, typer.Option("--seed", min=0, help="Random seed.")]


def augment_from(
    flip: float = 0.0,
    vertical_flip: float = 0.0,
    random_crop: str | None = None,
    padding: int = 0,
    resized_crop: str | None = None,
    **more: Any,
) -> Augment | None:
    """The Augment of these options, or None if there is nothing to do. `more`: other arguments of Augment, of which
    None is left out."""
    from largeds_native.transform import Augment

    sizes = {"random_crop": random_crop, "resized_crop": resized_crop}
    kwargs: dict[str, Any] = {name: side_or_size(text) for name, text in sizes.items() if text is not None}
    kwargs |= {name: value for name, value in more.items() if value is not None}
    if not (flip or vertical_flip or padding or kwargs):
        return None
    return Augment(flip=flip, vertical_flip=vertical_flip, padding=padding, **kwargs)


def sizes_from(resize: str | None, crop: str | None) -> dict[str, Any]:
    """The arguments `resize` and `crop`, without those that were not given, which follow the other."""
    return {name: side_or_size(text) for name, text in (("resize", resize), ("crop", crop)) if text is not None}


def side_or_size(text: str | None) -> int | tuple[int, int] | None:
    """'256' is a side, '224x160' is height x width, 'none' is None."""
    if text is None or text.lower() == "none":
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise typer.BadParameter(f"expected a side (256), height x width (224x160) or none, found {text!r}")
    numbers = [int(part) for part in parts]
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def numbers(text: str | None) -> list[float] | None:
    """Parses '0.485,0.456,0.406'."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(
            f"expected numbers separated by commas, such as 0.485,0.456,0.406, found {text!r}"
        ) from None


def byte_count(text: str) -> int:
    """Parses '1G', '512M' or '65536'; units are powers of 1024."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
    digits, unit = (text[:-1], units[text[-1].upper()]) if text and text[-1].upper() in units else (text, 1)
    if not digits.isdecimal() or int(digits) == 0:
        raise typer.BadParameter(f"expected a number of bytes, such as 65536, 512M or 1G, found {text!r}")
    return int(digits) * unit


def row_numbers(text: str | None) -> list[int] | None:
    """Parses '0-99,200,300-399': row numbers, and ranges with both ends included."""
    if text is None:
        return None
    rows: list[int] = []
    for part in text.split(","):
        low, dash, high = part.partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()):
            raise typer.BadParameter(f"expected rows and ranges, such as 0-99,200, found {part!r}")
        if dash and int(high) < int(low):
            raise typer.BadParameter(f"expected the smaller row first, as {high}-{low}; found {part!r}")
        rows += range(int(low), int(high or low) + 1)
    return rows
