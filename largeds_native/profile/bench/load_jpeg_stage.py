"""The stage load with JPEG rows: random resized crops and flips."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch

from largeds_native.loading import Loader
from largeds_native.profile import peers
from largeds_native.profile.bench import decoders
from largeds_native.profile.bench.candidates import OURS, Candidate
from largeds_native.profile.bench.image_set import ImageSet
from largeds_native.profile.bench.load_stage import BATCH, epochs
from largeds_native.store import JpegStore
from largeds_native.transform import Augment

TITLE = f"load: random batches of {BATCH} from JPEG rows, resized crops of {peers.SIDE} and flips, uint8"


def candidates(images: ImageSet, stack: ExitStack) -> list[Candidate]:
    augment = Augment(resized_crop=peers.SIDE, flip=0.5)
    kwargs: dict[str, Any] = {"augment": augment, "dtype": torch.uint8, "threads": images.threads}
    batches = stack.enter_context(Loader(images.store, BATCH, shuffle=True, **kwargs))
    return [
        Candidate(OURS, lambda: epochs(batches, 2), "ours"),
        Candidate("FFCV", lambda: epochs(_ffcv(images), 2)),
        Candidate("torchvision + DataLoader", lambda: _files(images)),
        Candidate("libjpeg-turbo, whole image", lambda: _libjpeg_turbo_alone(images), "reference"),
    ]


def _ffcv(images: ImageSet) -> Any:
    from largeds_native.profile.bench.ffcv import jpeg_loader

    return jpeg_loader(images.store, BATCH, images.threads, peers.SIDE, 0, 90)


def _files(images: ImageSet) -> decoders.Run:
    """torchvision's usual transforms of the original files, in DataLoader's workers."""
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    steps = [transforms.RandomResizedCrop(peers.SIDE), transforms.RandomHorizontalFlip(), peers.PixelTensor()]
    dataset = ImageFolder(str(images.folder), transforms.Compose(steps))
    return epochs(peers.loader(dataset, images.threads, BATCH))


def _libjpeg_turbo_alone(images: ImageSet) -> decoders.Run:
    """libjpeg-turbo decoding the rows from memory, whole, and nothing else."""
    from largeds_native import _C

    store = images.store
    assert isinstance(store, JpegStore)
    data = [store.encoded(row) for row in range(len(store))]
    boxes = [(0, 0, width, height) for height, width in store.sizes[:].tolist()]

    def run() -> int:
        _C.decode_boxes(data, boxes, images.threads)
        return len(data)

    return run
