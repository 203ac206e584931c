"""How fast is packing a folder of JPEGs, against peers, libjpeg-turbo alone, and writing the bytes?

Files in the page cache, shorter side 256, centre crop 224, to uint8 on disk. largeds_native does a whole pack: scan,
read, decode, resize, crop, statistics, hashes, samples.parquet, sync, manifest. libjpeg-turbo decodes whole images from
memory with the same number of threads, and discards its rows. It is a reference, not a limit, as largeds_native has a
faster Huffman decoder. The limit is writing the same bytes to a file.

python benchmarks/bench_pack.py [--rounds 5] [--threads N] [--images 1000]
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
from corpus import ROOT, files, jpegs
from harness import options_parser, report

import largeds_native as lds
from largeds_native import _C
from largeds_native._internal.measure import Contender, processor_seconds, ratio, take_turns
from largeds_native.profile import peers
from largeds_native.profile.bench import decoders

OUT = ROOT / "pack"


def fresh() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)


def write_alone(n: int, row: bytes) -> int:
    with open(OUT / "rows", "wb", buffering=0) as file:
        for _ in range(n):
            file.write(row)
        os.fsync(file.fileno())
    return n


def contenders(folder: Path, paths: list[str], threads: int) -> list[Contender]:
    data: list[bytes | str] = [Path(path).read_bytes() for path in paths]
    spec = _C.RowSpec()
    rows = np.zeros((len(paths), spec.row_bytes), np.uint8)
    row = os.urandom(spec.row_bytes)

    def ours(**more: object) -> int:
        with lds.pack(folder, OUT / "store", threads=threads, progress=False, **more) as store:  # type: ignore[arg-type]
            return len(store)

    return [
        Contender("largeds_native", ours, "ours", before=fresh),
        Contender("largeds_native, scaled", lambda: ours(decode="scaled"), "ours", before=fresh),
        Contender("decode and resize", lambda: len(_C.decode_to_rows(list(paths), rows, spec, threads)), "ours"),
        Contender(
            "torchvision, threads",
            lambda: decoders.to_rows(decoders.torchvision, paths, threads, OUT / "images.npy"),
            before=fresh,
        ),
        Contender(
            "torchvision, DataLoader", lambda: peers.pack_memmap(folder, OUT / "images.npy", threads), before=fresh
        ),
        Contender("HDF5, DataLoader", lambda: peers.pack_hdf5(folder, OUT / "images.h5", threads), before=fresh),
        Contender(
            "libjpeg-turbo, whole image", lambda: len(_C.decode_only(data, rows, spec, threads, True)), "reference"
        ),
        Contender("disk write", lambda: write_alone(len(paths), row), "limit", before=fresh),
    ]


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--images", type=int, default=1000, help="ImageNet-like files (1000)")
    options = parser.parse_args()
    folder = jpegs(options.images)
    runs = contenders(folder, files(folder), options.threads)
    results = take_turns(runs, rounds=options.rounds)
    names = ("largeds_native", "decode and resize", "disk write")
    taken = processor_seconds([run for run in runs if run.name in names], options.rounds)
    pack, decode, write = (taken[name] for name in names)
    shutil.rmtree(OUT, ignore_errors=True)
    added = ratio(results, "decode and resize", "largeds_native") - 1
    report(
        "pack",
        f"Pack {options.images:,} JPEGs to 224x224",
        results,
        relative_to="torchvision, threads",
        of="largeds_native",
        target=1.3,
        extra={
            "store_adds_to_decode_and_resize": round(added, 3),
            "by_processor_time": {"store_adds": round(pack / decode - 1, 3), "bare_write": round(write / decode, 3)},
        },
    )
    print(f"the store adds {added:.1%} to decoding and resizing (target: at most 5 %)")
    print(f"by processor time: {pack / decode - 1:.1%}, where a bare write of the rows takes {write / decode:.1%}")


if __name__ == "__main__":
    main()
