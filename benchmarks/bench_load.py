"""How fast is loading? Random batches of 256, 3x224x224, from a warm store: largeds_native, peers, and limits.

One table per question: uint8; normalised float32; bfloat16; random resized crop and flip; StoreDataset in DataLoader;
small rows. Peers that are not installed are listed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import console, options_parser, report
from limits import Limit
from torch.utils.data import DataLoader, Dataset

import largeds_native as lds
from largeds_native._internal.measure import Contender, take_turns
from largeds_native.profile import peers
from largeds_native.profile.bench.candidates import reason
from largeds_native.profile.bench.ffcv import ffcv_loader

MEAN, STD = peers.MEAN, peers.STD
RANDOM = np.random.default_rng(1)


def make_store(folder: Path, n: int, side: int) -> Any:
    images = np.random.default_rng(0).integers(0, 256, (n, 3, side, side), np.uint8)
    return lds.pack((images, np.arange(n) % 1000), folder / f"{side}.lds", resize=None, crop=None, progress=False)


def drained(batches: Iterable[Any], epochs: int = 1) -> Callable[[], int]:
    def run() -> int:
        return sum(len(batch[0]) for _ in range(epochs) for batch in batches)

    return run


def limit(
    store: Any, batch: int, threads: int, kind: str, epochs: int = 1, *, stream: bool = False
) -> Callable[[], int]:
    filler = Limit(store.images, batch, threads, kind, MEAN, STD, stream=stream)

    def run() -> int:
        for _ in range(epochs):
            order = RANDOM.permutation(len(store))
            for start in range(0, len(order), batch):
                filler.fill(np.ascontiguousarray(order[start : start + batch]))
        return len(store) * epochs

    return run


def numpy_batches(store: Any) -> Callable[[], int]:
    mean, std = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in (MEAN, STD))

    def run() -> int:
        order = RANDOM.permutation(len(store))
        for start in range(0, len(order), 256):
            rows = store.images[order[start : start + 256]]
            torch.from_numpy((rows.astype(np.float32) / 255 - mean) / std)
        return len(store)

    return run


class OneByOne(Dataset[Any]):
    """The rows of a store by a simple Dataset, item by item."""

    def __init__(self, store: Any) -> None:
        self.store = store

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(np.array(self.store.images[index])), int(self.store["label"][index])

    def __len__(self) -> int:
        return len(self.store)


def torch_loader(dataset: Dataset[Any], workers: int) -> DataLoader[Any]:
    return peers.loader(dataset, workers)


def memmap_rows(store: Any) -> Dataset[Any]:
    folder = store.shards[0].path
    return peers.MemmapRows(folder / "images.npy")


def ours(store: Any, threads: int, batch: int = 256, **kwargs: Any) -> Any:
    return lds.Loader(store, batch, shuffle=True, threads=threads, **kwargs)


def uint8(store: Any, o: Any) -> None:
    results = take_turns(
        [
            Contender("streaming copy of the rows", limit(store, 256, o.threads, "uint8", 4, stream=True), "limit"),
            Contender("memcpy of the rows", limit(store, 256, o.threads, "uint8", 4), "reference"),
            Contender("Loader", drained(ours(store, o.threads, dtype=torch.uint8), 4), "ours"),
            *ffcv(store, o, "uint8"),
        ],
        rounds=o.rounds,
    )
    base = "memcpy of the rows"
    report("load_uint8", "random batches, uint8", results, of="Loader", relative_to=base, target=0.95)


def float32(store: Any, o: Any) -> None:
    normal: dict[str, Any] = {"mean": MEAN, "std": STD}
    results = take_turns(
        [
            Contender("streaming stores, no loader", limit(store, 256, o.threads, "float32", 2), "limit"),
            Contender("Loader", drained(ours(store, o.threads, **normal), 2), "ours"),
            *ffcv(store, o, "float32"),
            Contender("numpy fancy index, normalised", numpy_batches(store)),
            Contender("DataLoader over np.memmap", drained(torch_loader(memmap_rows(store), o.threads))),
            Contender("HDF5 + DataLoader", drained(torch_loader(peers.HDF5Rows(exported(store)), o.threads))),
        ],
        rounds=o.rounds,
    )
    base = "DataLoader over np.memmap"
    report("load_float32", "random batches, normalised float32", results, of="Loader", relative_to=base, target=15)


def halves(store: Any, o: Any) -> None:
    kwargs: dict[str, Any] = {"mean": MEAN, "std": STD}
    results = take_turns(
        [
            Contender(name, drained(ours(store, o.threads, dtype=getattr(torch, name), **kwargs), 4), "ours")
            for name in ("float32", "bfloat16", "float16")
        ],
        rounds=o.rounds,
    )
    report(
        "load_halves",
        "normalised floats of 4 and of 2 bytes",
        results,
        of="bfloat16",
        relative_to="float32",
        target=1.25,
    )


def augmented(store: Any, o: Any) -> None:
    kwargs: dict[str, Any] = {"augment": lds.Augment(resized_crop=192, flip=0.5)}
    normal: dict[str, Any] = {"mean": MEAN, "std": STD}
    results = take_turns(
        [
            Contender("Loader, uint8", drained(ours(store, o.threads, dtype=torch.uint8, **kwargs)), "ours"),
            Contender("Loader, float32", drained(ours(store, o.threads, **kwargs, **normal)), "ours"),
            *ffcv(store, o, "uint8", crop=192),
            *ffcv(store, o, "float32", crop=192),
        ],
        rounds=o.rounds,
    )
    report("load_augmented", "random resized crop 192 and flip", results)


def dataset(store: Any, o: Any) -> None:
    results = take_turns(
        [
            Contender("StoreDataset", drained(torch_loader(lds.StoreDataset(store), o.threads)), "ours"),
            Contender("item by item", drained(torch_loader(OneByOne(store), o.threads))),
        ],
        rounds=o.rounds,
    )
    title = f"uint8 batches in torch's DataLoader, {o.threads} workers"
    report("load_dataset", title, results, of="StoreDataset", relative_to="item by item", target=5)


def small(folder: Path, o: Any) -> None:
    store = make_store(folder, 50_000, 32)
    results = take_turns(
        [
            Contender("memcpy of the rows", limit(store, 512, o.threads, "uint8", 4), "reference"),
            Contender("Loader", drained(ours(store, o.threads, 512, dtype=torch.uint8), 4), "ours"),
        ],
        rounds=o.rounds,
    )
    base = "memcpy of the rows"
    report("load_small", "random batches of 512, 3x32x32 uint8", results, of="Loader", relative_to=base, target=0.7)


def exported(store: Any) -> Path:
    path: Path = store.path.with_suffix(".h5")
    if not path.exists():
        store.to_hdf5(path, layout="chunked", progress=False)
    return path


def ffcv(store: Any, o: Any, kind: str, crop: int | None = None) -> list[Contender]:
    try:
        batches = ffcv_loader(store, 256, o.threads, kind, MEAN, STD, crop)
    except ImportError as error:
        console.print(f"not measured: FFCV: {reason(error)}")
        return []
    return [Contender(f"FFCV, {kind}" if crop else "FFCV", drained(batches))]


QUESTIONS = {"uint8": uint8, "float32": float32, "halves": halves, "augmented": augmented, "dataset": dataset}

if __name__ == "__main__":
    parser = options_parser(__doc__)
    parser.add_argument("--images", type=int, default=4000, help="of the store (4000: 600 MB)")
    parser.add_argument("--question", choices=[*QUESTIONS, "small"], action="append", help="only this one")
    options = parser.parse_args()
    questions = options.question or [*QUESTIONS, "small"]
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        packed = make_store(Path(folder), options.images, 224)
        for name, question in QUESTIONS.items():
            if name in questions:
                question(packed, options)
        if "small" in questions:
            small(Path(folder), options)
