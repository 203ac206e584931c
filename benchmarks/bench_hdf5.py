"""How fast are export to HDF5, HDF5Dataset, and mapped HDF5 files?

export: writing a store as one HDF5 file, contiguous and chunked, against copying the store's files to the same disk,
    both synced. memory: how much the peak of the resident memory grows during an export, in a process of its own.
dataset: HDF5Dataset in torch's DataLoader against the Dataset of tutorials, item by item, on the same chunked file.
loader: random batches from a mapped contiguous HDF5 file, against the packed store.

python benchmarks/bench_hdf5.py [--rounds 5] [--threads N] [--images 2000] [--question export]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from corpus import ROOT
from harness import RESULTS, console, options_parser, report
from torch.utils.data import Dataset

import largeds_native as lds
from largeds_native._internal.measure import Contender, machine_facts, take_turns, write_json
from largeds_native.profile import peers

FOLDER = ROOT / "hdf5"
OUT = FOLDER / "out"

# VmHWM is the peak of all resident pages, anonymous and mapped, without the page cache of files that are only read or
# written. Writing 5 to clear_refs resets the peak.
PEAK = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
import numpy as np, largeds_native as lds
def status(name):
    words = open("/proc/self/status").read().split()
    return int(words[words.index(name + ":") + 1]) / 1024
warm, store = lds.open({warm!r}), lds.open({store!r})
options = {options}
warm.to_hdf5({out!r} + "-warm", **options)
shuffled = np.random.default_rng(0).permutation(len(store)) if {shuffled} else None
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
store.to_hdf5({out!r}, indices=shuffled, **options)
print(status("VmHWM") - before)
"""
MEMORY: dict[str, tuple[dict[str, Any], bool]] = {
    "contiguous": ({}, False),
    "contiguous, rows shuffled": ({}, True),
    "chunked": ({"layout": "chunked"}, False),
    "chunked, gzip": ({"layout": "chunked", "compression": ("gzip", 1)}, False),
}


def make_store(name: str, n: int) -> Any:
    images = np.random.default_rng(0).integers(0, 256, (n, 3, 224, 224), np.uint8)
    return lds.pack((images, np.arange(n) % 1000), FOLDER / name, resize=None, crop=None, progress=False)


def fresh() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)


def copied(store: Any) -> int:
    """Copies the store's files, one after the other, each synced."""
    for source in sorted(path for path in store.path.rglob("*") if path.is_file()):
        target = OUT / source.relative_to(store.path)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(source, target)
        with target.open("rb") as file:
            os.fsync(file.fileno())
    return len(store)


def exported(store: Any, **options: Any) -> Callable[[], int]:
    def run() -> int:
        store.to_hdf5(OUT / "x.h5", **options)
        return len(store)

    return run


def export(store: Any, o: Any) -> None:
    results = take_turns(
        [
            Contender("copy of the files", lambda: copied(store), "limit", before=fresh),
            Contender("contiguous", exported(store), "ours", before=fresh),
            Contender("chunked", exported(store, layout="chunked"), "ours", before=fresh),
        ],
        rounds=o.rounds,
    )
    title, base = f"Export {store.nbytes / 1e6:,.0f} MB to HDF5, synced", "copy of the files"
    for ours, target in zip(results[1:], (0.8, 0.6), strict=True):
        name = f"hdf5-export-{ours.name}"
        report(name, title, [results[0], ours], relative_to=base, of=ours.name, target=target)


def memory(store: Any, o: Any) -> None:
    warm = make_store("warm.lds", 4)
    found = {}
    for name, (options, shuffled) in MEMORY.items():
        fresh()
        paths = {"root": str(Path(__file__).parent.parent), "warm": str(warm.path), "store": str(store.path)}
        script = PEAK.format(**paths, out=str(OUT / "x.h5"), options=repr(options), shuffled=shuffled)
        run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
        found[name] = round(float(run.stdout), 1)
        console.print(f"export, {name}: {store.nbytes / 1e6:,.0f} MB, peak memory +{found[name]} MiB (target: 100 MB)")
    content = {
        "question": "peak of resident memory (VmHWM) above the start of an export",
        "unit": "MiB",
        "machine": machine_facts(),
        "store_bytes": store.nbytes,
        "results": found,
    }
    write_json(RESULTS / "hdf5-memory.json", content)


class TutorialRows(Dataset[Any]):
    """The HDF5Dataset of tutorials: opened in the worker, one item at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: Any = None
        with h5py.File(path) as file:
            self._n = len(file["data"])

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if self._file is None:
            self._file = h5py.File(self.path, "r")
        return torch.from_numpy(self._file["data"][index]), int(self._file["labels"][index])


def drained(batches: Any, epochs: int = 1) -> Callable[[], int]:
    def run() -> int:
        return sum(len(batch[0]) for _ in range(epochs) for batch in batches)

    return run


def dataset(store: Any, o: Any) -> None:
    fresh()
    path = store.to_hdf5(OUT / "chunked.h5", layout="chunked")
    results = take_turns(
        [
            Contender("HDF5Dataset", drained(peers.loader(lds.HDF5Dataset(path), o.threads), 2), "ours"),
            Contender("item by item", drained(peers.loader(TutorialRows(path), o.threads))),
            Contender("StoreDataset", drained(peers.loader(lds.StoreDataset(store), o.threads), 2), "limit"),
        ],
        rounds=o.rounds,
    )
    title = f"uint8 batches of 256 from a chunked file in torch's DataLoader, {o.threads} workers"
    report("hdf5-dataset", title, results, of="HDF5Dataset", relative_to="item by item", target=3)


def loader(store: Any, o: Any) -> None:
    fresh()
    mapped = lds.open(store.to_hdf5(OUT / "mapped.h5"))

    def batches(rows: Any) -> Any:
        return drained(lds.Loader(rows, 256, shuffle=True, threads=o.threads, dtype=torch.uint8), 12)

    results = take_turns(
        [
            Contender("packed store", batches(store), "limit"),
            Contender("contiguous HDF5", batches(mapped), "ours"),
        ],
        rounds=o.rounds,
    )
    title = "random batches of 256, uint8, from the Loader"
    report("hdf5-loader", title, results, of="contiguous HDF5", relative_to="packed store", target=0.95)


QUESTIONS = {"export": export, "memory": memory, "dataset": dataset, "loader": loader}

if __name__ == "__main__":
    parser = options_parser(__doc__)
    parser.add_argument("--images", type=int, default=2000, help="of the store (2000: 300 MB)")
    parser.add_argument("--question", choices=QUESTIONS, action="append", help="only this one")
    options = parser.parse_args()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    try:
        packed = make_store("train.lds", options.images)
        for question in options.question or QUESTIONS:
            QUESTIONS[question](packed, options)
    finally:
        shutil.rmtree(FOLDER)
