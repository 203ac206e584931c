"""Does a store several times larger than memory make the loader thrash?

An epoch of random batches, and one of the block order, in a process whose memory (page cache included) is limited by a
cgroup to a quarter of the store. It prints images/s, and how many times the store's bytes were read from disk. The
minimum is 1.0; a loader that thrashes reads rows repeatedly. It needs permission to create a cgroup.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from harness import console, options_parser

import largeds_native as lds
from largeds_native._internal.measure import drop_files

CHILD = """
import json, os, sys, time
path, group, order, threads = sys.argv[1:]
open(group + "/cgroup.procs", "w").write(str(os.getpid()))
import torch
import largeds_native as lds

def read():
    return int(next(line for line in open("/proc/self/io") if line.startswith("read_bytes")).split()[1])

store = lds.open(path)
with lds.Loader(store, 128, **json.loads(order), dtype=torch.uint8, threads=int(threads), fields=()) as loader:
    before, start = read(), time.perf_counter()
    n = sum(len(images) for (images,) in loader)
    seconds = time.perf_counter() - start
print(json.dumps({"rate": n / seconds, "read": (read() - before) / store.nbytes}))
"""


def make_group(limit: int) -> Path | None:
    """A new cgroup (version 1 or 2) with this memory limit; None without the permission."""
    for root, name in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        group = Path(root) / f"largeds-bench-{os.getpid()}"
        try:
            group.mkdir()
            (group / name).write_text(str(limit))
            return group
        except OSError:
            if group.exists():
                group.rmdir()
    return None


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--images", type=int, default=14_000, help="3x224x224 (14,000: 2.1 GB)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        pixels = np.random.default_rng(0).integers(0, 256, (options.images // 10, 3, 224, 224), np.uint8)
        images = np.lib.format.open_memmap(f"{folder}/x.npy", "w+", np.uint8, (options.images, *pixels.shape[1:]))
        for start in range(0, options.images, len(pixels)):
            images[start : start + len(pixels)] = pixels[: options.images - start]
        images.flush()
        del images
        store = lds.open(f"{folder}/x.npy")
        group = make_group(store.nbytes // 4)
        if group is None:
            console.print("not measured: no permission to create a cgroup with a memory limit")
            return
        try:
            for name, order in {"shuffled": {"shuffle": True}, "by blocks": {"order": "block"}}.items():
                drop_files([store.path])
                command = [
                    sys.executable,
                    "-c",
                    CHILD,
                    str(store.path),
                    str(group),
                    json.dumps(order),
                    str(options.threads),
                ]
                environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
                done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
                result = json.loads(done.stdout)
                console.print(
                    f"{name}: {result['rate']:,.0f} images/s, read {result['read']:.2f} times the store's "
                    f"{store.nbytes / 1e9:.1f} GB under a limit of {store.nbytes / 4e9:.2f} GB"
                )
        finally:
            time.sleep(0.2)
            group.rmdir()


if __name__ == "__main__":
    main()
