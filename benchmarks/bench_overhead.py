"""What is the overhead of the loader: in Python, while the GIL is held, and at the start on a huge store?

1. Python's time per batch, with tiny batches, so that only the calls count (target: under 50 microseconds).
2. The rate while another thread holds the GIL in a busy loop, against the rate beside an equally busy process, which
   does not hold this GIL (target: above 0.9), with one thread for the core, so that the processors suffice for both.
3. Constructor and first batch of 256 on a store of 30 million rows (target: under 0.2 s), and its memory use; and the
   time to open 30 million JPEG rows (target: under 0.5 s).
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import console, options_parser, report

import largeds_native as lds
from largeds_native._internal.measure import Contender, take_turns
from largeds_native.store.format.manifest import Manifest, ShardEntry
from largeds_native.store.format.npy import file_size, header_bytes
from largeds_native.store.metadata import SizeRange


def store_of(folder: Path, name: str, n: int, side: int) -> Any:
    """A store of zeros: sparse .npy files, mapped."""
    for file, shape, dtype in ((name, (n, 3, side, side), np.uint8), (f"{name}-label", (n,), np.int64)):
        np.lib.format.open_memmap(folder / f"{file}.npy", "w+", dtype, shape).flush()
    return lds.open(folder / f"{name}.npy", label=folder / f"{name}-label.npy")


def python_share(folder: Path) -> None:
    store = store_of(folder, "tiny", 100_000, 1)
    with lds.Loader(store, 4, shuffle=True, threads=1, dtype=torch.uint8, prefetch=8) as loader:
        iterator = iter(loader)
        for _ in range(1000):
            next(iterator)
        start = time.thread_time()
        for _ in range(20_000):
            next(iterator)
        spent = (time.thread_time() - start) / 20_000
    verdict = "reached" if spent < 50e-6 else "NOT reached"
    console.print(
        f"Python's share of a batch: {spent * 1e6:.1f} microseconds of the caller's thread (under 50: {verdict})"
    )


def gil(folder: Path, options: Any) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6000, 3, 224, 224), np.uint8)
    store = lds.pack((images, np.arange(6000)), folder / "gil.lds", resize=None, crop=None, progress=False)
    stop = threading.Event()
    threads: list[threading.Thread] = []
    processes: list[subprocess.Popen[bytes]] = []

    def spin() -> None:
        while not stop.is_set():
            pass

    def begin() -> None:
        stop.clear()
        threads.append(threading.Thread(target=spin))
        threads[-1].start()

    def end() -> None:
        stop.set()
        threads.pop().join()

    def begin_process() -> None:
        processes.append(subprocess.Popen([sys.executable, "-c", "while True: pass"]))

    def end_process() -> None:
        processes[-1].kill()
        processes.pop().wait()

    loader = lds.Loader(store, 256, shuffle=True, threads=1)

    def run() -> int:
        return sum(len(images) for images, _ in loader)

    results = take_turns(
        [
            Contender("alone", run, "limit"),
            Contender("beside a busy process", run, "limit", before=begin_process, after=end_process),
            Contender("beside a busy thread", run, "ours", before=begin, after=end),
        ],
        rounds=options.rounds,
    )
    title = "float32 batches by one thread, while Python is busy"
    report("overhead_gil", title, results, of="beside a busy thread", relative_to="beside a busy process", target=0.9)


def first_batch(folder: Path) -> None:
    store_of(folder, "huge", 30_000_000, 8)
    lds.Loader(
        lds.open(folder / "tiny.npy", label=folder / "tiny-label.npy"), 4
    )  # imports modules before the measurement

    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    orders: dict[str, Any] = {"shuffled": {"shuffle": True}, "in order": {}, "by blocks": {"order": "block"}}
    for name, order in orders.items():
        before, start = peak(), time.perf_counter()
        store = lds.open(folder / "huge.npy", label=folder / "huge-label.npy")
        loader = lds.Loader(store, 256, **order)
        next(iter(loader))
        seconds = time.perf_counter() - start
        verdict = "reached" if seconds < 0.2 else "NOT reached"
        more = (peak() - before) / 1024
        console.print(
            f"30 million rows, {name}: first batch after {seconds:.3f} s (under 0.2: {verdict}), {more:.1f} MiB more"
        )
        loader.close()


def open_jpeg_store(folder: Path) -> None:
    """Opens 30 million JPEG rows in 300 shards, whose files have their sizes but no blocks on disk."""
    shards, rows, row_bytes = 300, 100_000, 25_000
    arrays = {"offsets": ("<u8", (rows + 1,)), "size": ("<u2", (rows, 2))}
    path = folder / "huge.lds"
    entries = [ShardEntry(f"shard-{i:05d}", rows, bytes=rows * row_bytes) for i in range(shards)]
    for entry in entries:
        shard = path / entry.name
        shard.mkdir(parents=True)
        for name, (dtype, shape) in arrays.items():
            (shard / f"images.{name}.npy").write_bytes(header_bytes(np.dtype(dtype), shape))
            os.truncate(shard / f"images.{name}.npy", file_size(np.dtype(dtype), shape))
        (shard / "images.bin").touch()
        os.truncate(shard / "images.bin", entry.bytes)
    sizes = SizeRange((256, 256), (256, 512), shards * rows * row_bytes)
    kwargs: dict[str, Any] = {"codec": "jpeg", "sizes": sizes, "shards": tuple(entries)}
    manifest = Manifest(shards * rows, (3, 0, 0), np.dtype("u1"), "CHW", **kwargs)
    (path / "manifest.json").write_bytes(manifest.to_bytes())
    best = 1.0
    for _ in range(3):
        start = time.perf_counter()
        store = lds.open(path)
        len(store.rows)
        best = min(best, time.perf_counter() - start)
    verdict = "reached" if best < 0.5 else "NOT reached"
    console.print(f"30 million JPEG rows in {shards} shards: open after {best:.3f} s (under 0.5: {verdict})")


if __name__ == "__main__":
    chosen = options_parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as where:
        python_share(Path(where))
        gil(Path(where), chosen)
        first_batch(Path(where))
        open_jpeg_store(Path(where))
