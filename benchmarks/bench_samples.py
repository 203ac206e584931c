"""What do more pictures of a sample cost: a second view, a mask?

From the page cache, random resized crop 224 and flip to uint8, batches of 256. JPEG rows: files like ImageNet's as they
are, and the same shrunk to a shorter side of 256 at quality 90; raw rows of 256x256.

Two views of one loader decode each row once; the reference are two loaders of one view, which decode it twice. A mask
of 21 classes is a PNG row beside a JPEG row, and raw numbers beside raw pixels. The rate with masks is in bytes of
images and masks together; the reference is the loader of the images alone.

python benchmarks/bench_samples.py [--rounds 5] [--threads N] [--images 1000]
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
from PIL import Image

import largeds_native as lds
from largeds_native._internal.measure import Contender, ratio, take_turns

BATCH, SIDE = 256, 224
VIEW = lds.Augment(resized_crop=SIDE, flip=0.5)
# crops as large as the box around two of VIEW: 0.65 of the image on average, where one has 0.43
AROUND_BOTH = lds.Augment(resized_crop=SIDE, scale=(0.6, 0.7), flip=0.5)
KINDS: dict[str, dict[str, Any]] = {
    "imagenet": {"codec": "jpeg"},
    "shrunk": {"codec": "jpeg", "resize": 256, "quality": 90},
    "raw": {"resize": 256, "crop": 256},
}


def masks_of(folder: Path) -> Path:
    """Regions of 21 classes, cut along the brightness of each image."""
    root = folder.with_name(folder.name + "-masks")
    for name in files(folder):
        path = (root / Path(name).relative_to(folder)).with_suffix(".png")
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(name) as image:
            grey = image.convert("L")
        small = grey.resize((max(grey.width // 24, 1), max(grey.height // 24, 1)), Image.Resampling.BOX)
        smooth = np.asarray(small.resize(grey.size, Image.Resampling.BICUBIC))
        Image.fromarray((smooth // 13).astype(np.uint8)).save(path)
    return root


def epoch(store: Any, threads: int, count: Callable[[Any], int], **options: Any) -> Callable[[], int]:
    loader = lds.Loader(store, BATCH, threads=threads, dtype=torch.uint8, **options)

    def run() -> int:
        loader.set_epoch(0)
        return sum(count(batch) for batch in loader)

    return run


def samples(batch: Any) -> int:
    return len(batch[0][0]) if isinstance(batch[0], list) else len(batch[0])


def kilobytes(batch: Any) -> int:
    return int(sum(part.numel() for part in batch)) // 1000


def measure(name: str, store: Any, options: Any) -> None:
    one = epoch(store, options.threads, samples, augment=VIEW, fields=())
    other = epoch(store, options.threads, samples, augment=VIEW, fields=(), seed=1)
    views = [
        Contender("two loaders of one view", lambda: (one() + other()) // 2, "reference"),
        Contender(
            "one loader of two views", epoch(store, options.threads, samples, augment=[VIEW] * 2, fields=()), "ours"
        ),
        Contender("one loader of one view", one, "reference"),
        Contender(
            "one view of the part that both need",
            epoch(store, options.threads, samples, augment=AROUND_BOTH, fields=()),
            "reference",
        ),
    ]
    found = take_turns(views, rounds=options.rounds, warmup=3)
    question = f"Two views of 224 from {len(store):,} rows, {store.row_bytes / 1000:.0f} kB each: {name}"
    target = 1.6 if store.codec == "jpeg" else None
    report(f"views_{name}", question, found, relative_to=views[0].name, of=views[1].name, target=target)
    masked = [
        Contender("images alone", epoch(store, options.threads, kilobytes, augment=VIEW, fields=()), "reference"),
        Contender("images and masks", epoch(store, options.threads, kilobytes, augment=VIEW, fields=("mask",)), "ours"),
    ]
    found = take_turns(masked, rounds=options.rounds, warmup=3)
    mask_bytes = sum(path.stat().st_size for path in store.path.rglob("mask.*")) / len(store) / 1000
    question = (
        f"Images and masks from {len(store):,} rows, {store.row_bytes / 1000:.0f} + {mask_bytes:.0f} kB each: {name}"
    )
    report(f"masks_{name}", question, found, unit="kB/s", relative_to=masked[0].name, of=masked[1].name, target=0.8)
    console.print(f"masks: {ratio(found, masked[1].name, masked[0].name):.2f} of the bytes a second of images alone")


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--images", type=int, default=1000, help="ImageNet-like files (1000)")
    options = parser.parse_args()
    folder = jpegs(options.images)
    masks = masks_of(folder)
    for name, how in KINDS.items():
        path = ROOT / f"{name}.masks.lds"
        shutil.rmtree(path, ignore_errors=True)
        measure(name, lds.pack(folder, path, masks=masks, progress=False, **how), options)


if __name__ == "__main__":
    main()
