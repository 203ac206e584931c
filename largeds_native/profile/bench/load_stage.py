"""The stage load: loading random batches of normalised float32."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib import import_module
from typing import Any

import numpy as np
import torch

from largeds_native.loading import Loader
from largeds_native.profile import peers
from largeds_native.profile.bench import decoders, ffcv, streaming
from largeds_native.profile.bench.candidates import OURS, Candidate
from largeds_native.profile.bench.image_set import ROW_BYTES, ImageSet

BATCH = 256
TITLE = f"load: random batches of {BATCH}, normalised float32"
EPOCHS = 8  # epochs per round of fast candidates, as one would be too short to measure


def candidates(images: ImageSet, stack: ExitStack) -> list[Candidate]:
    batches = stack.enter_context(
        Loader(images.store, BATCH, shuffle=True, mean=peers.MEAN, std=peers.STD, threads=images.threads)
    )
    rows, *others = [file.path for file in images.store.files("images")]
    one_file = not others
    return [
        Candidate(OURS, lambda: epochs(batches, EPOCHS), "ours"),
        Candidate("FFCV", lambda: epochs(_ffcv(images), 2)),
        *([Candidate("memmap + DataLoader", lambda: _workers(peers.MemmapRows(rows), images))] if one_file else []),
        Candidate("LitData", lambda: epochs(streaming.litdata(images.store, images.out / "litdata", *_shape(images)))),
        Candidate(
            "Mosaic Streaming", lambda: epochs(streaming.mosaic(images.store, images.out / "mds", *_shape(images)))
        ),
        Candidate(
            "WebDataset", lambda: epochs(streaming.webdataset(images.store, images.out / "tars", *_shape(images)))
        ),
        Candidate("HDF5 + DataLoader", lambda: _workers(peers.HDF5Rows(exported(images)), images)),
        Candidate("torchvision + DataLoader", lambda: _workers(files(images), images)),
        Candidate("OpenCV + DataLoader", lambda: _workers(_opencv(images), images)),
        Candidate(
            "DALI, CPU",
            lambda: decoders.dali_batches(str(images.folder), BATCH, images.threads, peers.MEAN, peers.STD),
        ),
        Candidate("memset of the batches", lambda: _memset(images), "limit"),
    ]


def _shape(images: ImageSet) -> tuple[int, int]:
    """Batch size and workers."""
    images.out.mkdir(exist_ok=True)
    return BATCH, images.threads


def epochs(batches: Iterable[Any], times: int = 1) -> Callable[[], int]:
    return lambda: sum(peers.count(batches) for _ in range(times))


def _workers(dataset: Any, images: ImageSet) -> Callable[[], int]:
    return epochs(peers.loader(dataset, images.threads, BATCH))


def exported(images: ImageSet) -> Any:
    """The store as an HDF5 file with one image per chunk, as in tutorials."""
    images.out.mkdir(exist_ok=True)
    path = images.out / "chunked.h5"
    path.unlink(missing_ok=True)
    return images.store.to_hdf5(path, layout="chunked", progress=False)


def files(images: ImageSet) -> Any:
    return peers.image_folder(images.folder, normalised=True)


def _ffcv(images: ImageSet) -> Any:
    images.store.path.with_suffix(".beton").unlink(missing_ok=True)
    return ffcv.ffcv_loader(images.store, BATCH, images.threads, "float32", peers.MEAN, peers.STD, None)


def _opencv(images: ImageSet) -> Any:
    import_module("cv2").setNumThreads(1)
    return OpenCVFiles(images.paths)


class OpenCVFiles(torch.utils.data.Dataset[Any]):
    """Decoded by OpenCV in the worker. The label is the index, as looking up the class would take no time."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        pixels = decoders.opencv_image(self.paths[index]).astype(np.float32)
        pixels *= np.float32(1 / 255)
        pixels -= np.array(peers.MEAN, np.float32)
        pixels /= np.array(peers.STD, np.float32)
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))), index


def _memset(images: ImageSet) -> Callable[[], int]:
    """Only fills the bytes of a batch, for each batch of an epoch: every loader must do at least that."""
    count = min(BATCH, images.count)
    batch = np.zeros(count * ROW_BYTES * 4, np.uint8)
    parts = [(int(part[0]), len(part)) for part in np.array_split(np.arange(len(batch)), images.threads) if len(part)]
    times = EPOCHS * max(1, images.count // count)

    def run() -> int:
        with ThreadPoolExecutor(len(parts)) as pool:
            for _ in range(times):
                list(pool.map(lambda part: ctypes.memset(batch.ctypes.data + part[0], 1, part[1]), parts))
        return times * count

    return run
