"""Rows that are JPEG files: made by the core without a store, and read from the files of a store."""

from __future__ import annotations

import io
import itertools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from largeds_native import _C
from largeds_native.store.format.sample_log import KEPT
from largeds_native.transform import ImageTransform
from tests.builders.images import Pixels
from tests.reference import needs_pillow, needs_pillow_of_rows_first

ENCODED = {"subsampling": "4:2:0", "restart_marker_rows": 1}  # Pillow's options for our encoding


@dataclass(frozen=True)
class Row:
    """What the core made of one image. `failure`: (reason, message), or None."""

    file: bytes
    kept: str
    size: tuple[int, int]
    orientation: int
    psnr: int
    failure: tuple[str, str] | None


def convert(*items: Any, quality: int = 95, restarts: bool = False, threads: int = 1, **transform: Any) -> list[Row]:
    """The rows of image files or arrays of pixels; `transform`: arguments of ImageTransform."""
    spec = ImageTransform(**{"resize": None, "crop": None, **transform}).core((1, 1))
    packer = _C.Packer(spec, threads, jpeg_quality=quality, restarts=restarts)
    with tempfile.TemporaryFile() as file:
        packer.start(items, file.fileno(), 0)
        _, _, _, failures, _ = packer.result()
        columns = packer.jpeg()
        file.seek(0)
        failed = {index: (reason, message) for index, reason, message in failures}
        rows = [
            Row(
                file.read(int(columns["bytes"][i])),
                KEPT[columns["kept"][i]],
                (int(columns["height"][i]), int(columns["width"][i])),
                int(columns["orientation"][i]),
                int(columns["psnr"][i]),
                failed.get(i),
            )
            for i in range(len(items))
        ]
        assert file.read() == b""
    return rows


def one(item: Any, **options: Any) -> Row:
    """The row of one image, which must be good."""
    [row] = convert(item, **options)
    assert row.failure is None, row.failure
    return row


def decoded(file: bytes, mode: str = "RGB") -> Pixels:
    """Pixels (height, width, channels) as stored, by Pillow."""
    image = Image.open(io.BytesIO(file)).convert(mode)
    return np.asarray(image).reshape(image.height, image.width, len(mode))


def shown(file: bytes, mode: str = "RGB") -> Pixels:
    """As `decoded`, turned as its EXIF block says."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(file))).convert(mode)
    return np.asarray(image).reshape(image.height, image.width, len(mode))


def encoded(image: Pixels, quality: int = 95) -> bytes:
    """As the core should encode these pixels, by Pillow: grey where all channels are equal."""
    if image.shape[2] == 3 and (image == image[:, :, :1]).all():
        image = image[:, :, :1]
    needs_pillow((10, 2), "does not write restart markers")
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(buffer, "JPEG", quality=quality, **ENCODED)
    return buffer.getvalue()


def shrunk(image: Pixels, side: int, resample: Image.Resampling = Image.Resampling.BILINEAR) -> Pixels:
    """Resized by Pillow to this shorter side, by torchvision's rule; unchanged if it is no longer."""
    height, width, channels = image.shape
    if min(height, width) <= side:
        return image
    size = (int(side * width / height), side) if height <= width else (side, int(side * height / width))
    needs_pillow_of_rows_first()
    picture = Image.fromarray(image.squeeze(2) if channels == 1 else image).resize(size, resample)
    return np.asarray(picture).reshape(picture.height, picture.width, channels)


def segments(file: bytes) -> list[tuple[int, bytes]]:
    """(marker, data) of each segment before the first scan, and of its header."""
    at, found = 2, []
    while True:
        length = int.from_bytes(file[at + 2 : at + 4], "big")
        found.append((file[at + 1], file[at + 4 : at + 2 + length]))
        if file[at + 1] == 0xDA:
            return found
        at += 2 + length


@dataclass(frozen=True)
class StoredRows:
    """The rows of a store, read without it."""

    files: list[bytes]
    sizes: list[list[int]]
    orientations: list[int]


def read_rows(store: Path) -> StoredRows:
    found = StoredRows([], [], [])
    for shard in sorted(store.glob("shard-*")):
        data, offsets = (shard / "images.bin").read_bytes(), np.load(shard / "images.offsets.npy").tolist()
        assert (offsets[0], offsets[-1]) == (0, len(data))
        found.files.extend(data[low:high] for low, high in itertools.pairwise(offsets))
        found.sizes.extend(np.load(shard / "images.size.npy").tolist())
        turned = shard / "images.orientation.npy"
        found.orientations.extend(np.load(turned).tolist() if turned.exists() else [1] * (len(offsets) - 1))
    return found
