"""How fast are packs of JPEG rows: kept as they are, against copying the files; shrunk, against a pack of raw rows?

Files in the page cache. A pack scans, reads, keeps or decodes and encodes, hashes, writes samples.parquet, syncs, and
writes the manifest. "copied" are the same files, copied by as many threads to files, or into one file that is synced as
the store is. Shrunk rows have a shorter side of at most 256, quality 90;
the raw pack has its usual 256 and 224. "transcoded" writes the coefficients of every file again.

python benchmarks/bench_pack_jpeg.py [--rounds 5] [--threads N] [--images 1000]
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path

from corpus import ROOT, files, jpegs
from harness import console, options_parser, report

import largeds_native as lds
from largeds_native._internal.measure import Contender, ratio, take_turns

OUT = ROOT / "pack_jpeg"
REPORTS: dict[str, str] = {}


def fresh() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)


def in_threads(work: Callable[[list[int]], None], n: int, threads: int) -> int:
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, [list(range(first, n, threads)) for first in range(threads)]))
    return n


def copy_to_files(paths: list[str], threads: int) -> int:
    def copy(chosen: list[int]) -> None:
        for i in chosen:
            shutil.copyfile(paths[i], OUT / f"{i}.jpg")

    return in_threads(copy, len(paths), threads)


def copy_into_one(paths: list[str], offsets: list[int], threads: int) -> int:
    with open(OUT / "images.bin", "wb") as file:

        def copy(chosen: list[int]) -> None:
            for i in chosen:
                with open(paths[i], "rb", buffering=0) as source:
                    os.pwrite(file.fileno(), source.read(), offsets[i])

        in_threads(copy, len(paths), threads)
        os.fsync(file.fileno())
    return len(paths)


def contenders(folder: Path, paths: list[str], threads: int) -> list[Contender]:
    offsets = [0, *accumulate(os.path.getsize(path) for path in paths)]

    def pack(name: str, **options: object) -> Contender:
        def run() -> int:
            with lds.pack(folder, OUT / "store", threads=threads, progress=False, **options) as store:  # type: ignore[arg-type]
                REPORTS[name] = str(store.report)
                return len(store)

        return Contender(name, run, "ours", before=fresh)

    return [
        pack("kept as they are", codec="jpeg"),
        pack("shrunk to 256, quality 90", codec="jpeg", resize=256, quality=90),
        pack("transcoded", codec="jpeg", restarts=True),
        pack("raw, 256 and 224"),
        Contender("copied to files", lambda: copy_to_files(paths, threads), "reference", before=fresh),
        Contender("copied into one file", lambda: copy_into_one(paths, offsets, threads), "reference", before=fresh),
    ]


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--images", type=int, default=1000, help="ImageNet-like files (1000)")
    options = parser.parse_args()
    folder = jpegs(options.images)
    results = take_turns(contenders(folder, files(folder), options.threads), rounds=options.rounds)
    shutil.rmtree(OUT, ignore_errors=True)
    shrunk = ratio(results, "shrunk to 256, quality 90", "raw, 256 and 224")
    report(
        "pack_jpeg",
        f"Pack {options.images:,} JPEGs as JPEG rows",
        results,
        relative_to="copied into one file",
        of="kept as they are",
        target=0.8,
        extra={"shrunk_to_raw_pack": round(shrunk, 3), "reports": REPORTS},
    )
    for name, text in REPORTS.items():
        console.print(f"{name}:\n{text}\n", markup=False)
    console.print(f"shrunk: {shrunk:.2f} of the raw pack (target: at least 0.6)")


if __name__ == "__main__":
    main()
