"""The peers of bench_decode.py: from files to 224x224 uint8 pixels, shorter side 256, centre crop.

Each takes (paths, threads) and returns a function that decodes all paths once. `available` skips what is not installed.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image

from largeds_native.profile.bench.candidates import reason
from largeds_native.profile.bench.decoders import CROP, RESIZE, Run, dali_rows, opencv, threaded, torchvision

__all__ = ["CROP", "available"]


def spdl(paths: list[str], threads: int) -> Run:
    import spdl.io

    sizes = {path: Image.open(path).size for path in paths}  # its filter needs sizes as numbers; untimed

    def one(path: str) -> Any:
        width, height = sizes[path]
        short = min(width, height)
        size = (RESIZE * width // short, RESIZE * height // short)
        filters = f"scale=w={size[0]}:h={size[1]}:flags=bilinear,crop={CROP}:{CROP},format=pix_fmts=rgb24"
        frames = spdl.io.decode_packets(spdl.io.demux_image(path), filter_desc=filters)
        return spdl.io.convert_frames(frames)

    one(paths[0])
    return threaded(one, paths, threads)


def _by_pillow(path: str) -> Any:
    from torchvision.transforms import functional

    image = Image.open(path).convert("RGB")
    return np.array(functional.center_crop(functional.resize(image, [RESIZE]), [CROP, CROP]))


class PillowFiles(torch.utils.data.Dataset[Any]):
    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        return _by_pillow(self.paths[index])


def dataloader(paths: list[str], threads: int) -> Run:
    batches = torch.utils.data.DataLoader(PillowFiles(paths), batch_size=16, num_workers=threads)
    return lambda: sum(len(batch) for batch in batches)


def pool(paths: list[str], threads: int) -> Run:
    def run() -> int:
        with multiprocessing.get_context("fork").Pool(threads) as workers:
            return sum(1 for _ in workers.imap(_by_pillow, paths, chunksize=4))

    return run


PEERS = {
    "torchvision, threads": torchvision,
    "OpenCV, threads": opencv,
    "DALI, CPU": dali_rows,
    "SPDL, threads": spdl,
    "DataLoader + Pillow": dataloader,
    "multiprocessing.Pool + Pillow": pool,
}


def available(paths: list[str], threads: int, note: Callable[[str], object]) -> dict[str, Run]:
    found = {}
    for name, make in PEERS.items():
        try:
            found[name] = make(paths, threads)
        except (ImportError, OSError, RuntimeError) as error:  # noqa: PERF203
            note(f"not measured: {name}: {reason(error)}")
    return found
