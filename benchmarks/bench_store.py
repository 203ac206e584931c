"""How long does opening take, and how close is verifying to reading the file?

Opening: a store of 30 million rows of 3x224x224 in shards of 1 GiB, with sparse files, in a process of its own; time
and memory are those of opening alone. Verifying: a store with real bytes in the page cache and on disk, against reading
the same file with the same number of threads.

python benchmarks/bench_store.py [--rounds 5] [--threads N] [--rows 30000000] [--megabytes 2000]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from corpus import ROOT
from harness import console, options_parser, report

import largeds_native as lds
from largeds_native._internal.arrays import FieldSpec
from largeds_native._internal.measure import Contender, drop_files, take_turns
from largeds_native.store.format.manifest import Manifest, ShardEntry
from largeds_native.store.format.npy import file_size, header_bytes

SHAPE = (3, 224, 224)
PIECE = 4 << 20

OPEN = """
import sys, time
sys.path.insert(0, {root!r})
import numpy, largeds_native as lds
from largeds_native import store, _C
def held():
    words = open("/proc/self/status").read().split()
    return int(words[words.index("VmRSS:") + 1]) / 1024
lds.open({warm!r})
before, start = held(), time.perf_counter()
opened = lds.open({path!r})
seconds = time.perf_counter() - start
opened.images[len(opened) - 1]
opened["label"][len(opened) // 2]
print(len(opened), len(opened.shards), seconds, held() - before)
"""


def sparse_store(path: Path, rows: int) -> Path:
    """A store whose files have only headers, which opening reads, and holes."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    each = (1 << 30) // int(np.prod(SHAPE))
    shards = []
    for number, low in enumerate(range(0, rows, each)):
        n = min(each, rows - low)
        shards.append(ShardEntry(f"shard-{number:05d}", n))
        (path / shards[-1].name).mkdir()
        for name, dtype, shape in (("images", np.dtype("u1"), (n, *SHAPE)), ("label", np.dtype("<i8"), (n,))):
            with open(path / shards[-1].name / f"{name}.npy", "wb") as file:
                file.write(header_bytes(dtype, shape))
                file.truncate(file_size(dtype, shape))
    fields = {"label": FieldSpec(np.dtype("<i8"))}
    manifest = Manifest(rows, SHAPE, np.dtype("u1"), "CHW", fields, shards=tuple(shards))
    (path / "manifest.json").write_bytes(manifest.to_bytes())
    return path


def opening(rows: int, rounds: int) -> None:
    big, small = sparse_store(ROOT / "sparse", rows), sparse_store(ROOT / "sparse-small", 10)
    script = OPEN.format(root=str(Path(__file__).parent.parent), warm=str(small), path=str(big))
    found = []
    for _ in range(rounds):
        run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
        found.append(run.stdout.split())
    seconds = sorted(float(words[2]) for words in found)[rounds // 2]
    memory = max(float(words[3]) for words in found)
    console.print(
        f"opening {rows:,} rows in {found[0][1]} shards: {seconds:.3f} s, {memory:.1f} MB (targets: 0.5 s, 50 MB)\n"
    )
    shutil.rmtree(big)
    shutil.rmtree(small)


def read_file(path: Path, threads: int) -> int:
    """Reads all bytes once, in large pieces, in threads."""
    size = path.stat().st_size
    descriptor = os.open(path, os.O_RDONLY)
    buffers = [bytearray(PIECE) for _ in range(threads)]

    def part(number: int) -> int:
        return sum(
            os.preadv(descriptor, [buffers[number]], low) for low in range(number * PIECE, size, threads * PIECE)
        )

    try:
        with ThreadPoolExecutor(threads) as pool:
            return sum(pool.map(part, range(threads)))
    finally:
        os.close(descriptor)


def verifying(megabytes: int, threads: int, rounds: int) -> None:
    path = ROOT / "verify"
    shutil.rmtree(path, ignore_errors=True)
    n = megabytes * 1_000_000 // int(np.prod(SHAPE))
    images = np.random.default_rng(0).integers(0, 256, (n, *SHAPE), np.uint8)
    store = lds.pack((images, np.arange(n)), path, resize=None, crop=None, shard_bytes=1 << 40, progress=False)
    del images
    file = store.shards[0].path / "images.npy"

    def verified() -> int:
        assert store.verify(threads=threads).ok
        return store.nbytes

    for cache, before in (("warm", None), ("cold", lambda: drop_files([file]))):
        results = take_turns(
            [
                Contender("verify", verified, "ours", before=before),
                Contender("read the file", lambda: read_file(file, threads), "limit", before=before),
            ],
            rounds=rounds,
        )
        question = f"Verify {store.nbytes / 1e9:.1f} GB, page cache {cache}"
        kwargs = {"unit": "bytes/s", "relative_to": "read the file", "of": "verify", "target": 0.8, "cache": cache}
        report(f"verify-{cache}", question, results, **kwargs)  # type: ignore[arg-type]
    shutil.rmtree(path)


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--rows", type=int, default=30_000_000, help="of the sparse store (30,000,000)")
    parser.add_argument("--megabytes", type=int, default=2000, help="of the store that is verified (2000)")
    options = parser.parse_args()
    opening(options.rows, options.rounds)
    verifying(options.megabytes, options.threads, options.rounds)


if __name__ == "__main__":
    main()
