"""How fast do random batches of normalised float32 come?"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib import import_module
from typing import Any

import numpy as np
import torch

import largeds_native as lds
from largeds_native.cli import peers
from largeds_native.cli.bench import decoders, ffcv
from largeds_native.cli.bench.candidates import OURS, Candidate
from largeds_native.cli.bench.work import ROW, Work

BATCH = 256
TITLE = f"load: random batches of {BATCH}, normalised float32"
EPOCHS = 8  # of the fast ones in a round, which are over too soon to be measured


def candidates(work: Work, stack: ExitStack) -> list[Candidate]:
    batches = stack.enter_context(
        lds.Loader(work.store, BATCH, shuffle=True, mean=peers.MEAN, std=peers.STD, threads=work.threads)
    )
    images, *others = [file.path for file in work.store.files("images")]
    one_file = not others
    return [
        Candidate(OURS, lambda: epochs(batches, EPOCHS), "ours"),
        Candidate("FFCV", lambda: epochs(_ffcv(work), 2)),
        *([Candidate("memmap + DataLoader", lambda: _workers(peers.MemmapRows(images), work))] if one_file else []),
        Candidate("HDF5 + DataLoader", lambda: _workers(peers.HDF5Rows(exported(work)), work)),
        Candidate("torchvision + DataLoader", lambda: _workers(files(work), work)),
        Candidate("OpenCV + DataLoader", lambda: _workers(_opencv(work), work)),
        Candidate(
            "DALI, CPU",
            lambda: decoders.dali_batches(str(work.images), BATCH, work.threads, peers.MEAN, peers.STD),
        ),
        Candidate("memset of the batches", lambda: _limit(work), "limit"),
    ]


def epochs(batches: Iterable[Any], times: int = 1) -> Callable[[], int]:
    return lambda: sum(peers.count(batches) for _ in range(times))


def _workers(dataset: Any, work: Work) -> Callable[[], int]:
    return epochs(peers.loader(dataset, work.threads, BATCH))


def exported(work: Work) -> Any:
    """The store as the HDF5 file of tutorials, an image a chunk; made once."""
    work.out.mkdir(exist_ok=True)
    path = work.out / "chunked.h5"
    path.unlink(missing_ok=True)
    return work.store.to_hdf5(path, layout="chunked", progress=False)


def files(work: Work) -> Any:
    return peers.image_folder(work.images, normalised=True)


def _ffcv(work: Work) -> Any:
    work.store.path.with_suffix(".beton").unlink(missing_ok=True)
    return ffcv.ffcv_loader(work.store, BATCH, work.threads, "float32", peers.MEAN, peers.STD, None)


def _opencv(work: Work) -> Any:
    import_module("cv2").setNumThreads(1)
    return OpenCVFiles(work.paths)


class OpenCVFiles(torch.utils.data.Dataset[Any]):
    """Decoded by OpenCV in the worker; the label stands in for the class, which costs nothing."""

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


def _limit(work: Work) -> Callable[[], int]:
    """Filling a batch's bytes, and nothing else, as often as an epoch has batches: the least that anybody must do."""
    count = min(BATCH, work.count)
    batch = np.zeros(count * ROW * 4, np.uint8)
    parts = [(int(part[0]), len(part)) for part in np.array_split(np.arange(len(batch)), work.threads) if len(part)]
    times = EPOCHS * max(1, work.count // count)

    def run() -> int:
        with ThreadPoolExecutor(len(parts)) as pool:
            for _ in range(times):
                list(pool.map(lambda part: ctypes.memset(batch.ctypes.data + part[0], 1, part[1]), parts))
        return times * count

    return run
