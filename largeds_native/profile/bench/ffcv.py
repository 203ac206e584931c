"""FFCV's writer and loader, as in its documentation, with raw and with JPEG images.

Raises ImportError if it is not installed.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np


def ffcv_loader(store: Any, batch: int, threads: int, kind: str, mean: Any, std: Any, crop: int | None) -> Any:
    """FFCV's loader over a store's images. kind: "uint8" or "float32" (normalised)."""
    from ffcv.fields.basics import IntDecoder
    from ffcv.fields.rgb_image import RandomResizedCropRGBImageDecoder, SimpleRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import NormalizeImage, RandomHorizontalFlip, ToTensor, ToTorchImage

    images: list[Any] = [SimpleRGBImageDecoder()]
    if crop is not None:
        images = [RandomResizedCropRGBImageDecoder((crop, crop)), RandomHorizontalFlip()]
    if kind == "float32":
        scale = np.array(mean) * 255, np.array(std) * 255
        images += [NormalizeImage(*scale, np.float32), ToTensor(), ToTorchImage(convert_back_int16=False)]
    else:
        images += [ToTensor(), ToTorchImage(convert_back_int16=False)]
    return Loader(
        str(_beton(store)),
        batch,
        num_workers=threads,
        order=OrderOption.RANDOM,
        os_cache=True,
        drop_last=False,
        pipelines={"image": images, "label": [IntDecoder(), ToTensor()]},
    )


def jpeg_loader(store: Any, batch: int, threads: int, crop: int, max_resolution: int, quality: int) -> Any:
    """FFCV's loader of random resized crops over the images of a JPEG store, written in its JPEG mode: images longer
    than `max_resolution` are shrunk to it (0: none), and all are encoded at `quality`."""
    from ffcv.fields import IntField, RGBImageField
    from ffcv.fields.basics import IntDecoder
    from ffcv.fields.rgb_image import RandomResizedCropRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import RandomHorizontalFlip, ToTensor, ToTorchImage
    from ffcv.writer import DatasetWriter

    path = store.path.with_suffix(f".{max_resolution}-{quality}.beton")
    if not path.exists():
        images = RGBImageField(write_mode="jpg", max_resolution=max_resolution or None, jpeg_quality=quality)
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
            writer = DatasetWriter(str(path), {"image": images, "label": IntField()}, num_workers=1)
            writer.from_indexed_dataset(_StoreImages(store))
    steps = [RandomResizedCropRGBImageDecoder((crop, crop)), RandomHorizontalFlip(), ToTensor()]
    pipelines = {"image": [*steps, ToTorchImage(convert_back_int16=False)], "label": [IntDecoder(), ToTensor()]}
    return Loader(
        str(path),
        batch,
        num_workers=threads,
        order=OrderOption.SEQUENTIAL,
        os_cache=True,
        drop_last=False,
        pipelines=pipelines,
    )


def _beton(store: Any) -> Path:
    path: Path = store.path.with_suffix(".beton")
    if not path.exists():
        write(_StoreImages(store), path, 1)
    return path


def write(images: Any, path: Path, workers: int) -> int:
    """Writes a dataset of (PIL image or array (H, W, C), label) as a .beton file."""
    from ffcv.fields import IntField, RGBImageField
    from ffcv.writer import DatasetWriter

    fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
        DatasetWriter(str(path), fields, num_workers=workers).from_indexed_dataset(images)
    return len(images)


class _StoreImages:
    def __init__(self, store: Any) -> None:
        self.store = store

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return np.ascontiguousarray(self.store.images[index].transpose(1, 2, 0)), int(self.store["label"][index])
