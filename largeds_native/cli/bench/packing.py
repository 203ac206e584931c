"""How fast do image files become 224x224 rows on disk?"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

import largeds_native as lds
from largeds_native.cli import peers
from largeds_native.cli.bench import decoders, ffcv
from largeds_native.cli.bench.candidates import OURS, Candidate
from largeds_native.cli.bench.work import Work

TITLE = "pack: files to 224x224 on disk"


def candidates(work: Work) -> list[Candidate]:
    def ours() -> int:
        with lds.pack(work.images, work.out / "s.lds", threads=work.threads, progress=False) as store:
            return len(store)

    def threads_of(make: Callable[..., decoders.Run]) -> Callable[[], decoders.Run]:
        """A way that decodes in threads, with the writing of rows."""

        def made() -> decoders.Run:
            make(work.paths[:1], 1)  # whether it is there
            return lambda: decoders.to_rows(make, work.paths, work.threads, work.out / "rows.npy")

        return made

    def by_loader() -> int:
        return peers.pack_memmap(work.images, work.out / "images.npy", work.threads)

    def by_hdf5() -> int:
        return peers.pack_hdf5(work.images, work.out / "images.h5", work.threads)

    ways = [
        Candidate(OURS, lambda: ours, "ours"),
        Candidate("torchvision, threads", threads_of(decoders.torchvision)),
        Candidate("torchvision + DataLoader", lambda: by_loader),
        Candidate("OpenCV, threads", threads_of(decoders.opencv)),
        Candidate("DALI, CPU", threads_of(decoders.dali_rows)),
        Candidate("FFCV writer", lambda: _ffcv(work)),
        Candidate("HDF5 + DataLoader", lambda: by_hdf5),
        Candidate("decoding alone", lambda: _limit(work), "limit"),
    ]
    for way in ways:
        way.before = work.fresh
    return ways


def _ffcv(work: Work) -> decoders.Run:
    import_module("ffcv")  # whether it is there
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    shape = transforms.Compose([transforms.Resize(decoders.RESIZE), transforms.CenterCrop(decoders.CROP)])
    images = ImageFolder(str(work.images), shape)
    return lambda: ffcv.write(images, work.out / "images.beton", work.threads)


def _limit(work: Work) -> decoders.Run:
    """Our codecs (libjpeg-turbo, libpng, libwebp) decoding whole images and nothing else."""
    from largeds_native import _C

    spec = _C.RowSpec()
    rows = np.zeros((work.count, spec.row_bytes), np.uint8)
    paths: list[Any] = list(work.paths)
    return lambda: len(_C.decode_only(paths, rows, spec, work.threads, True))
