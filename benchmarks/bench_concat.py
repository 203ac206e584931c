"""How fast are batches of ten joined stores, against one store with the same rows?

Raw rows of 3 x 224 x 224 with small shifts and flips, and JPEG rows with random resized crops of 224, both shuffled,
uint8, from the page cache; and a mix of the ten raw stores. One store and ten take turns in the same run.

python benchmarks/bench_concat.py [--rounds 7] [--threads N] [--images 1000]
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from corpus import ROOT, files, jpegs
from harness import console, options_parser, report

import largeds_native as lds
from largeds_native._internal.measure import Contender, ratio, take_turns

PARTS, BATCH, TARGET = 10, 256, 0.97
RAW = lds.Augment(random_crop=224, padding=8, flip=0.5)
JPEG = lds.Augment(resized_crop=224, flip=0.5)


def packed(source: Any, name: str, **options: Any) -> Any:
    path = ROOT / f"{name}.lds"
    shutil.rmtree(path, ignore_errors=True)
    return lds.pack(source, path, progress=False, **options)


def one_and_ten(folder: Path, name: str, **options: Any) -> tuple[Any, Any]:
    """One store of the images of a folder, and ten stores that hold the same rows, joined."""
    paths = sorted(files(folder))
    shares = np.array_split(np.arange(len(paths)), PARTS)

    def pairs(rows: Any) -> list[tuple[bytes, int]]:
        return [(Path(paths[row]).read_bytes(), int(row)) for row in rows]

    one = packed(pairs(range(len(paths))), f"concat-{name}", **options)
    ten = lds.concat([packed(pairs(share), f"concat-{name}-{i}", **options) for i, share in enumerate(shares)])
    return one, ten


def epoch(store: Any, threads: int, augment: lds.Augment, epochs: int) -> Callable[[], int]:
    loader = lds.Loader(store, BATCH, shuffle=True, augment=augment, dtype=torch.uint8, threads=threads)

    def run() -> int:
        loader.set_epoch(0)
        return sum(len(images) for _ in range(epochs) for images, *_ in loader)

    return run


def measure(name: str, one: Any, ten: Any, augment: lds.Augment, epochs: int, options: Any) -> None:
    runs = [
        Contender("one store", epoch(one, options.threads, augment, epochs), "reference"),
        Contender("ten joined", epoch(ten, options.threads, augment, epochs), "ours"),
        Contender("ten mixed", epoch(lds.mix(ten.stores, [1] * PARTS), options.threads, augment, epochs), "ours"),
    ]
    results = take_turns(runs, rounds=options.rounds, warmup=3)
    mixed = round(ratio(results, "ten mixed", "one store"), 3)
    question = f"Batches of {len(one):,} {name} rows in one store, or in ten"
    report(
        f"concat_{name}", question, results, relative_to="one store", of="ten joined", target=TARGET,
        extra={"mixed": mixed},
    )  # fmt: skip
    console.print(f"ten mixed / one store: {mixed}")


def main() -> None:
    parser = options_parser(__doc__)
    parser.set_defaults(rounds=7)
    parser.add_argument("--images", type=int, default=1000, help="ImageNet-like files (1000)")
    options = parser.parse_args()
    folder = jpegs(options.images)
    measure("raw", *one_and_ten(folder, "raw", resize=256, crop=224), RAW, 20, options)
    measure("jpeg", *one_and_ten(folder, "jpeg", codec="jpeg", resize=256, quality=90), JPEG, 2, options)


if __name__ == "__main__":
    main()
