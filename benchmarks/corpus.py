"""The images of the benchmarks, created once in $LARGEDS_BENCH_DIR (default: build/bench) and then reused."""

from __future__ import annotations

import os
from pathlib import Path

from largeds_native._internal.corpus import digits_tree, jpeg_corpus, photo_corpus

ROOT = Path(os.environ.get("LARGEDS_BENCH_DIR", Path(__file__).parent.parent / "build" / "bench"))


def jpegs(n: int = 1000) -> Path:
    """`n` JPEG files with ImageNet's spread of sizes, about 100 kB each."""
    return jpeg_corpus(ROOT / f"jpeg-{n}", n)


def photos(n: int = 12) -> Path:
    """`n` photographs of 12 megapixels."""
    return photo_corpus(ROOT / f"photo-{n}", n)


def digits() -> Path:
    return digits_tree(ROOT / "digits")


def files(folder: Path) -> list[str]:
    """Every image of a corpus in a stable order."""
    return sorted(str(path) for path in folder.rglob("*") if path.is_file())
