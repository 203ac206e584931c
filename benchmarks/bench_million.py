"""How long do scan and pack of a million small files take, and how much memory do they need?

32x32 PNG files in ten folders, in the page cache. The scan is compared with a plain walk by os.scandir; the pack with
only reading and decoding, with the same number of threads. Memory is the growth of the peak of resident memory, by the
scan and by the pack, for a tenth of the files and for all.

python benchmarks/bench_million.py [--rounds 3] [--threads N] [--images 1000000]
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from corpus import ROOT
from harness import console, options_parser, report
from PIL import Image

import largeds_native as lds
from largeds_native import _C
from largeds_native._internal.measure import Contender, ratio, take_turns
from largeds_native.sources import folder

OUT = ROOT / "small-store"
CLASSES, SIDE = 10, 32

# Runs in a process of its own, whose peak is that of the pack.
MEMORY = """
import sys
sys.path.insert(0, {root!r})
import largeds_native as lds
from largeds_native import _C
import pyarrow.parquet
from largeds_native.sources import folder
def peak():
    words = open("/proc/self/status").read().split()
    return int(words[words.index("VmHWM:") + 1]) / 1024
start = peak()
source = folder({tree!r})
scanned = peak()
with lds.pack(source, {out!r}, resize=None, crop=None, threads={threads}, progress=False) as store:
    print(len(store), scanned - start, peak() - start)
"""


def small_pngs(n: int) -> Path:
    """A folder of `n` files with a thousand different images."""
    root = ROOT / f"png-{n}"
    if (root / "made").exists():
        return root / "tree"
    shutil.rmtree(root, ignore_errors=True)
    rng = np.random.default_rng(0)
    images = []
    for _ in range(1000):
        pixels = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize(
            (SIDE, SIDE), Image.Resampling.BICUBIC
        )
        stream = io.BytesIO()
        pixels.save(stream, "PNG")
        images.append(stream.getvalue())
    for label in range(CLASSES):
        folder_path = root / "tree" / f"class-{label}"
        folder_path.mkdir(parents=True)
        for i in range(label, n, CLASSES):
            (folder_path / f"{i:08d}.png").write_bytes(images[i % 1000])
    (root / "made").touch()
    return root / "tree"


def walk(tree: Path) -> int:
    """The minimum of a scan: the name of each entry, and whether it is a folder."""
    found, stack = 0, [str(tree)]
    while stack:
        with os.scandir(stack.pop()) as entries:
            for entry in entries:
                if entry.is_dir():
                    stack.append(entry.path)
                else:
                    found += 1
    return found


def read_and_decode(tree: Path, spec: _C.RowSpec, threads: int, chunk: int = 1 << 14) -> int:
    """Decodes files into one small buffer, which is overwritten."""
    out = np.zeros((chunk, spec.row_bytes), np.uint8)
    paths = [entry.path for folder_path in os.scandir(tree) for entry in os.scandir(folder_path)]
    for low in range(0, len(paths), chunk):
        part: list[bytes | str] = [*paths[low : low + chunk]]
        _C.decode_only(part, out[: len(part)], spec, threads, True)
    return len(paths)


def memory(tree: Path, threads: int) -> tuple[int, float, float]:
    shutil.rmtree(OUT, ignore_errors=True)
    root = str(Path(__file__).parent.parent)
    script = MEMORY.format(root=root, tree=str(tree), out=str(OUT), threads=threads)
    words = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    return int(words[0]), float(words[1]), float(words[2])


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--images", type=int, default=1_000_000, help="files (1,000,000)")
    options = parser.parse_args()
    start = time.perf_counter()
    tree = small_pngs(options.images)
    console.print(f"made the files in {time.perf_counter() - start:.0f} s")
    spec = _C.RowSpec(resize_h=0, crop_h=0, crop_w=0, out_h=SIDE, out_w=SIDE)

    def scan() -> int:
        return folder(tree).count or 0

    def packed() -> int:
        with lds.pack(tree, OUT, resize=None, crop=None, threads=options.threads, progress=False) as store:
            return len(store)

    scans = take_turns(
        [Contender("our scan", scan, "ours"), Contender("os.scandir walk", lambda: walk(tree), "reference")],
        rounds=options.rounds,
    )
    report("million-scan", f"Scan {options.images:,} files", scans, unit="files/s", relative_to="os.scandir walk")
    packs = take_turns(
        [
            Contender("pack", packed, "ours", before=lambda: shutil.rmtree(OUT, ignore_errors=True)),
            Contender("read and decode alone", lambda: read_and_decode(tree, spec, options.threads), "limit"),
        ],
        rounds=options.rounds,
    )
    used = [memory(small_pngs(n), options.threads) for n in (options.images // 10, options.images)]
    extra = {"memory": [{"images": n, "scan_mb": scan_mb, "peak_mb": peak} for n, scan_mb, peak in used]}
    question = f"Pack {options.images:,} PNGs of {SIDE}x{SIDE}"
    report("million-pack", question, packs, relative_to="read and decode alone", extra=extra)
    shutil.rmtree(OUT, ignore_errors=True)
    console.print(f"scan: {1 / ratio(scans, 'our scan', 'os.scandir walk'):.2f} times the walk (target: at most 1.3)")
    times = 1 / ratio(packs, "pack", "read and decode alone")
    console.print(f"pack: {times:.2f} times reading and decoding (target: at most 1.3, or 25,000 images/s on 2 cores)")
    for n, scan_mb, peak in used:
        console.print(f"memory for {n:,}: {scan_mb:.0f} MB after the scan, {peak:.0f} MB at most (target: 400)")


if __name__ == "__main__":
    main()
