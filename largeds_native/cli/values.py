"""What several commands take, and values that are typed as text: sizes and lists of numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

STORE = Annotated[Path, typer.Argument(help="A store, or an HDF5 file with contiguous images.")]
BATCH_SIZE = Annotated[int, typer.Option("--batch-size", "-b", min=1, help="Images in a batch.")]
DEVICE = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; default cuda where there is one.")]
JSON = Annotated[bool, typer.Option("--json", help="Machine-readable output, nothing else on stdout.")]
QUIET = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no report.")]
THREADS = Annotated[
    int | None, typer.Option("--threads", "-t", min=1, max=1024, help="Default: the processors this process may use.")
]


def side_or_size(text: str | None) -> int | tuple[int, int] | None:
    """'256' is one side, '224x160' is height x width, 'none' leaves it out."""
    if text is None or text.lower() == "none":
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise typer.BadParameter(f"expected a side (256), height x width (224x160) or none, found {text!r}")
    numbers = [int(part) for part in parts]
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def numbers(text: str | None) -> list[float] | None:
    """'0.485,0.456,0.406'"""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"expected numbers between commas, as 0.485,0.456,0.406; found {text!r}") from None


def byte_count(text: str) -> int:
    """'1G', '512M', '65536': powers of 1024."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
    digits, unit = (text[:-1], units[text[-1].upper()]) if text and text[-1].upper() in units else (text, 1)
    if not digits.isdecimal() or int(digits) == 0:
        raise typer.BadParameter(f"expected a number of bytes, as 65536, 512M or 1G; found {text!r}")
    return int(digits) * unit


def row_numbers(text: str | None) -> list[int] | None:
    """'0-99,200,300-399': row numbers and ranges, both ends counted."""
    if text is None:
        return None
    rows: list[int] = []
    for part in text.split(","):
        low, dash, high = part.partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()):
            raise typer.BadParameter(f"expected rows and ranges, as 0-99,200; found {part!r}")
        rows += range(int(low), int(high or low) + 1)
    return rows
