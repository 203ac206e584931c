"""Image files: pixels with detail at every scale, and encoders that Pillow does not have."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]


def pixels(height: int, width: int, channels: int = 3, seed: int = 0) -> Pixels:
    """Smooth waves with some noise and hard edges, (height, width, channels)."""
    random = np.random.default_rng(seed)
    y, x, c = np.ogrid[:height, :width, :channels]
    waves = 96 * np.sin(x / (5.0 + c) + seed) + 96 * np.cos(y / 7.0 + 2 * c)
    edges = np.where((x // 11 + y // 13) % 3 == 0, 60, 0)
    noise = random.normal(0, 12, (height, width, channels))
    image: Pixels = np.clip(128 + waves + edges + noise, 0, 255).astype(np.uint8)
    return image


def encode(image: Image.Image | Pixels, form: str = "JPEG", **options: Any) -> bytes:
    """The image file written by Pillow."""
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image.squeeze(-1) if image.ndim == 3 and image.shape[-1] == 1 else image)
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def exif_block(orientation: int, byte_order: str = "<", kind: str = "H") -> bytes:
    """A TIFF structure with one entry, Orientation, of the struct type `kind`."""
    number = {"B": 1, "H": 3, "I": 4, "b": 6, "h": 8, "i": 9}[kind]
    value = struct.pack(byte_order + kind, orientation).ljust(4, b"\0")
    head = b"II*\0" if byte_order == "<" else b"MM\0*"
    order = byte_order
    return head + struct.pack(order + "IHHHI", 8, 1, 0x0112, number, 1) + value + struct.pack(order + "I", 0)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


# colour type -> samples a pixel
PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def png(
    samples: npt.NDArray[np.integer[Any]], depth: int, colour: int, *, interlace: bool = False, before: bytes = b""
) -> bytes:
    """A PNG of any colour type, depth and interlace. `samples` is (height, width, samples a pixel); `before` are chunks
    that come before the pixels."""
    height, width, _ = samples.shape

    def packed(part: npt.NDArray[np.integer[Any]]) -> bytes:
        if part.size == 0:
            return b""
        rows = []
        for row in part.reshape(part.shape[0], -1):
            if depth == 16:
                data = row.astype(">u2").tobytes()
            elif depth == 8:
                data = row.astype(np.uint8).tobytes()
            else:
                bits = np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, 8 - depth :]
                data = np.packbits(bits.reshape(-1)).tobytes()
            rows.append(b"\0" + data)
        return b"".join(rows)

    passes = [samples[y0::dy, x0::dx] for x0, y0, dx, dy in ADAM7] if interlace else [samples]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlace))
    data = zlib.compress(b"".join(packed(part) for part in passes))
    half = len(data) // 2
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + before
        + png_chunk(b"IDAT", data[:half])
        + png_chunk(b"IDAT", data[half:])
        + png_chunk(b"IEND", b"")
    )


def jpeg_segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def with_segment(jpeg: bytes, marker: int, data: bytes) -> bytes:
    """`jpeg` with one more segment right after its start."""
    return jpeg[:2] + jpeg_segment(marker, data) + jpeg[2:]


def with_luma_sampling(jpeg: bytes, horizontal: int, vertical: int) -> bytes:
    """`jpeg` with other sampling factors for its first component, for subsamplings that Pillow can't write. The number
    of blocks must come out the same; the picture does not, which is fine for comparing decoders."""
    for marker in (b"\xff\xc0", b"\xff\xc2"):
        if (at := jpeg.find(marker)) >= 0:
            return jpeg[: at + 11] + bytes([horizontal * 16 + vertical]) + jpeg[at + 12 :]
    raise ValueError("no SOF marker")


def scan_ends(jpeg: bytes) -> list[int]:
    """The end of the data of each scan."""
    at, ends = 2, []
    while jpeg[at + 1] != 0xD9:
        is_scan = jpeg[at + 1] == 0xDA
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if is_scan:
            while jpeg[at] != 0xFF or jpeg[at + 1] == 0 or 0xD0 <= jpeg[at + 1] <= 0xD7:
                at += 1
            ends.append(at)
    return ends
