"""Peers that stream chunks or shards of decoded rows, here from the local disk: LitData, Mosaic Streaming, WebDataset.

Each imports its library when it is called, and raises ImportError if it is not installed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from largeds_native.profile import peers
from largeds_native.store import Store

SHARDS = 8
SHUFFLED = 1000  # samples in WebDataset's buffer, as in its documentation


def litdata(store: Store, folder: Path, batch: int, workers: int) -> Iterable[Any]:
    """Batches of an optimized dataset, shuffled."""
    streaming: Any = import_module("litdata.streaming")
    loader: Any = import_module("litdata").StreamingDataLoader
    shutil.rmtree(folder, ignore_errors=True)
    cache = streaming.Cache(str(folder), chunk_bytes=64 << 20)
    for i, (image, label) in enumerate(_samples(store)):
        cache[i] = {"image": torch.from_numpy(image), "label": label}
    cache.done()
    cache.merge()

    class Rows(streaming.StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, index: Any) -> tuple[torch.Tensor, int]:
            sample = super().__getitem__(index)
            return normalised(sample["image"]), sample["label"]

    return loader(Rows(str(folder), shuffle=True), batch_size=batch, num_workers=workers)  # type: ignore[no-any-return]


def mosaic(store: Store, folder: Path, batch: int, workers: int) -> Iterable[Any]:
    """Batches of MDS shards, shuffled."""
    streaming: Any = import_module("streaming")
    shutil.rmtree(folder, ignore_errors=True)
    shape = ",".join(map(str, store.images.shape[1:]))
    columns = {"image": f"ndarray:{store.dtype.name}:{shape}", "label": "int"}
    with streaming.MDSWriter(out=str(folder), columns=columns) as writer:
        for image, label in _samples(store):
            writer.write({"image": image, "label": label})

    class Rows(streaming.StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, index: Any) -> tuple[torch.Tensor, int]:
            sample = super().__getitem__(index)
            return normalised(torch.from_numpy(sample["image"])), sample["label"]

    rows = Rows(local=str(folder), shuffle=True, batch_size=batch)
    return torch.utils.data.DataLoader(rows, batch, num_workers=workers, persistent_workers=True)


def webdataset(store: Store, folder: Path, batch: int, workers: int) -> Iterable[Any]:
    """Batches of tar shards, shuffled by a buffer."""
    wds: Any = import_module("webdataset")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    paths = [str(folder / f"{shard}.tar") for shard in range(max(SHARDS, workers))]
    writers = [wds.TarWriter(path) for path in paths]
    for i, (image, label) in enumerate(_samples(store)):
        writers[i % len(writers)].write({"__key__": f"{i:08d}", "npy": image, "cls": label})
    for writer in writers:
        writer.close()
    samples = wds.WebDataset(paths, shardshuffle=len(paths)).shuffle(SHUFFLED).decode().to_tuple("npy", "cls")
    samples = samples.map_tuple(lambda image: normalised(torch.from_numpy(image)), int)
    return torch.utils.data.DataLoader(samples, batch, num_workers=workers, persistent_workers=True)


def _samples(store: Store) -> Iterable[tuple[np.ndarray[Any, Any], int]]:
    labels = store["label"][:]
    for i in range(len(store)):
        yield np.array(store.images[i]), int(labels[i])


def normalised(image: torch.Tensor) -> torch.Tensor:
    mean, std = torch.tensor(peers.MEAN).view(3, 1, 1), torch.tensor(peers.STD).view(3, 1, 1)
    return image.float().div_(255).sub_(mean).div_(std)
