"""The stage pack: from image files to 224x224 rows on disk."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from largeds_native.packing import pack
from largeds_native.profile import peers
from largeds_native.profile.bench import decoders, ffcv
from largeds_native.profile.bench.candidates import OURS, Candidate
from largeds_native.profile.bench.image_set import ImageSet

TITLE = "pack: files to 224x224 on disk"


def candidates(images: ImageSet) -> list[Candidate]:
    def ours() -> int:
        with pack(
            images.folder, images.out / "s.lds", threads=images.threads, max_failures=1.0, progress=False
        ) as store:
            return len(store)

    def in_threads(make: Callable[..., decoders.Run]) -> Callable[[], decoders.Run]:
        """A threaded decoder that also writes rows."""

        def make_run() -> decoders.Run:
            make(images.paths[:1], 1)  # raises ImportError if it is not installed
            return lambda: decoders.to_rows(make, images.paths, images.threads, images.out / "rows.npy")

        return make_run

    def by_loader() -> int:
        return peers.pack_memmap(images.folder, images.out / "images.npy", images.threads)

    def by_hdf5() -> int:
        return peers.pack_hdf5(images.folder, images.out / "images.h5", images.threads)

    found = [
        Candidate(OURS, lambda: ours, "ours"),
        Candidate("torchvision, threads", in_threads(decoders.torchvision)),
        Candidate("torchvision + DataLoader", lambda: by_loader),
        Candidate("torchcodec, threads", in_threads(decoders.torchcodec)),
        Candidate("SPDL, threads", in_threads(decoders.spdl)),
        Candidate("OpenCV, threads", in_threads(decoders.opencv)),
        Candidate("DALI, CPU", in_threads(decoders.dali_rows)),
        Candidate("FFCV writer", lambda: _ffcv(images)),
        Candidate("HDF5 + DataLoader", lambda: by_hdf5),
        Candidate("libjpeg-turbo, whole image", lambda: _libjpeg_turbo_alone(images), "reference"),
    ]
    for candidate in found:
        candidate.before = images.empty_out
    return found


def _ffcv(images: ImageSet) -> decoders.Run:
    import_module("ffcv")  # raises ImportError if it is not installed
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    shape = transforms.Compose([transforms.Resize(decoders.RESIZE), transforms.CenterCrop(decoders.CROP)])
    dataset = ImageFolder(str(images.folder), shape)
    return lambda: ffcv.write(dataset, images.out / "images.beton", images.threads)


def _libjpeg_turbo_alone(images: ImageSet) -> decoders.Run:
    """libjpeg-turbo (or libpng, libwebp) decoding whole images and nothing else. It is not a limit: largeds_native has
    a faster Huffman decoder, and decodes only the part that the crop needs."""
    from largeds_native import _C

    spec = _C.RowSpec()
    rows = np.zeros((images.count, spec.row_bytes), np.uint8)
    paths: list[Any] = list(images.paths)
    return lambda: len(_C.decode_only(paths, rows, spec, images.threads, True))
