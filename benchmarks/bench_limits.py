"""Is the limit in a pack's report correct? Three packs with a known limit.

decode: ImageNet-like JPEGs in the page cache. source read: motion photos from disk, which are small JPEGs followed by a
video of 10 MB. disk write: arrays, which need no decoding.

python benchmarks/bench_limits.py [--threads N] [--megabytes 2000]
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from corpus import ROOT, files, jpegs
from harness import console, options_parser
from PIL import Image

import largeds_native as lds
from largeds_native._internal.measure import drop_files

OUT = ROOT / "limits"


def motion_photos(megabytes: int) -> Path:
    folder = ROOT / f"motion-{megabytes}"
    if not folder.exists():
        (folder / "a").mkdir(parents=True)
        random = np.random.default_rng(0)
        stream = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (64, 64, 3), np.uint8)).save(stream, "JPEG")
        for i in range(max(2, megabytes // 10)):
            (folder / "a" / f"{i:05d}.jpg").write_bytes(stream.getvalue() + random.bytes(10_000_000))
    return folder


def check(name: str, expected: str, source: Any, **options: Any) -> bool:
    shutil.rmtree(OUT, ignore_errors=True)
    found = lds.pack(source, OUT, progress=False, **options).report
    shutil.rmtree(OUT)
    assert found is not None
    rates = f"{found.source_mb_per_second:,.0f} MB/s read, {found.written_mb_per_second:,.0f} MB/s written"
    console.print(f"{name}: expected {expected!r}, the report says {found.limit!r} ({rates})")
    return found.limit == expected


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--megabytes", type=int, default=2000, help="read or written (2000)")
    options = parser.parse_args()
    threads = options.threads
    folder = jpegs(400)
    for path in files(folder):
        Path(path).read_bytes()
    good = check("JPEGs in the page cache", "decode", folder, threads=threads)
    photos = motion_photos(options.megabytes)
    drop_files(files(photos))
    good &= check("motion photos on disk", "source read", photos, threads=threads)
    images = np.zeros((options.megabytes * 1_000_000 // (3 * 224 * 224), 3, 224, 224), np.uint8)
    images[:] = np.random.default_rng(0).integers(0, 256, images.shape[1:], np.uint8)
    good &= check("arrays", "disk write", (images, np.arange(len(images))), threads=threads, resize=None, crop=None)
    console.print("all three are correct" if good else "NOT all are correct")


if __name__ == "__main__":
    main()
