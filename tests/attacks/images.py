"""Damaged and hostile JPEG, PNG and WebP files."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from tests.builders.images import encode, exif_block, jpeg_segment, pixels, png, png_chunk, with_segment

SIDE = 24
# good files, one of each kind, to damage
GOOD = {
    "jpeg": encode(pixels(SIDE, SIDE), quality=85),
    "progressive": encode(pixels(SIDE, SIDE), quality=85, progressive=True),
    "restarts": encode(pixels(SIDE, SIDE), quality=85, restart_marker_blocks=1),
    "gray": encode(pixels(SIDE, SIDE, 1)),
    "png": encode(pixels(SIDE, SIDE), "PNG"),
    "interlaced": png(pixels(SIDE, SIDE), 8, 2, interlace=True),
    "palette": png(pixels(SIDE, SIDE, 1) % 16, 4, 3, before=png_chunk(b"PLTE", bytes(range(48)))),
    "lossy": encode(pixels(SIDE, SIDE), "WEBP", quality=80),
    "lossless": encode(pixels(SIDE, SIDE, 4), "WEBP", lossless=True),
}
MAGIC_NUMBERS = [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\xff\xff\xff\x7fWEBPVP8 ", b""]

# odd, but harmless: these open as the correct image
ODDITIES = [
    GOOD["jpeg"] + b"more after the end" * 20,
    GOOD["jpeg"] + GOOD["jpeg"],
    with_segment(GOOD["jpeg"], 0xEB, b"an unknown segment"),
    with_segment(GOOD["jpeg"], 0xFE, b""),
    with_segment(GOOD["jpeg"], 0xE1, b"Exif\0\0"),
    with_segment(GOOD["jpeg"], 0xE1, GOOD["jpeg"]),
    GOOD["jpeg"][:-2] + b"\0\0\0\0" + b"\xff\xd9",
    GOOD["jpeg"][:2] + b"\xff\xff\xff" + GOOD["jpeg"][2:],
    GOOD["png"] + b"more after the end",
    GOOD["lossy"] + b"more after the end",
]


def garbage_after_magic(magic: bytes) -> list[bytes]:
    random = np.random.default_rng(0)
    return [magic + random.bytes(n) for n in range(0, 400, 7)]


def jpeg_of_size(width: int, height: int, progressive: bool = False) -> bytes:
    """A JPEG whose header has another size than its data."""
    data = GOOD["progressive" if progressive else "jpeg"]
    at = data.index(b"\xff\xc2" if progressive else b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header has another size than its data."""
    data = GOOD["png"]
    header = struct.pack(">II", width, height) + data[24:29]
    return data[:8] + png_chunk(b"IHDR", header) + data[33:]


def webp_of_size(width: int, height: int) -> bytes:
    """A WebP whose canvas has another size than its data."""
    canvas = bytes([0] * 4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + canvas + GOOD["lossy"][12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def huge_headers() -> list[bytes]:
    """Small files with more pixels in their header than fit into memory."""
    files = [jpeg_of_size(60000, 60000), jpeg_of_size(60000, 60000, True), png_of_size(60000, 60000)]
    return [*files, png_of_size(2**31 - 1, 2**31 - 1), webp_of_size(16384, 16384)]


def empty_sizes() -> list[bytes]:
    return [jpeg_of_size(0, SIDE), jpeg_of_size(SIDE, 0), png_of_size(0, SIDE), png_of_size(SIDE, 0)]


def decompression_bomb() -> bytes:
    """Ten kilobytes of PNG for a gigabyte of pixels."""
    bomb = png(np.zeros((8, 8, 1), np.uint8), 8, 0)
    header = struct.pack(">IIBBBBB", 40000, 40000, 8, 0, 0, 0, 0)
    return bomb[:8] + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(bytes(10_000_000))) + bomb[-12:]


def without_segments(jpeg: bytes, marker: int) -> bytes:
    """`jpeg` without its segments of this marker, such as its tables."""
    out, at = jpeg[:2], 2
    while jpeg[at + 1] != 0xDA:
        length = struct.unpack(">H", jpeg[at + 2 : at + 4])[0] + 2
        if jpeg[at + 1] != marker:
            out += jpeg[at : at + length]
        at += length
    return out + jpeg[at:]


def bad_huffman_codes() -> list[bytes]:
    """Invalid Huffman codes of only ones, at the start of the scan and after some good bytes."""
    data = GOOD["jpeg"]
    start = data.index(b"\xff\xda") + 14
    return [data[:start] + good + b"\xff\x00" * 900 + b"\xff\xd9" for good in (b"", data[start : start + 50])]


def cut_and_closed() -> bytes:
    """Half a scan followed by the end marker, as written by some tools."""
    return GOOD["jpeg"][: -len(GOOD["jpeg"]) // 4] + b"\xff\xd9"


def flood_of_scans(count: int = 600) -> bytes:
    """A progressive file with empty scans: each takes a dozen bytes, and costs a pass over the image."""
    data = GOOD["progressive"]
    scan = jpeg_segment(0xDA, b"\1\1\0\1\5\2") + b"\0"
    return data[:-2] + scan * count + data[-2:]


def exif_directory(
    order: str, directory: int, entries: list[tuple[int, int, int, int]], extra: int = 0, tail: bytes = b""
) -> bytes:
    """An EXIF block with any offset of its directory, and a count with `extra` more entries than exist."""
    block = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", directory)
    block += struct.pack(order + "H", max(len(entries) + extra, 0))
    return block + b"".join(struct.pack(order + "HHII", *entry) for entry in entries) + tail


def raw_profiles(orientation: int) -> list[bytes]:
    """PNG text chunks with EXIF, as written by ImageMagick."""
    block = b"Exif\0\0" + exif_block(orientation)
    text = f"\nexif\n{len(block):8}\n{block.hex()}\n".encode()
    return [
        png_chunk(b"tEXt", b"Raw profile type exif\0" + text),
        png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)),
    ]


def text_bombs() -> dict[str, bytes]:
    """PNG files of some 300 KB whose compressed texts and profiles would inflate to 250 MB."""
    zeros = zlib.compress(bytes(60 << 20), 9)
    bodies = {
        "zTXt": (b"zTXt", b"Comment\0\0" + zeros),
        "iTXt": (b"iTXt", b"Comment\0\1\0\0\0" + zeros),
        "iCCP": (b"iCCP", b"profile\0\0" + zeros),
        "exif": (b"zTXt", b"Raw profile type exif\0\0" + zeros),
        "xmp": (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zeros),
    }
    image = pixels(SIDE, SIDE)
    return {name: png(image, 8, 2, before=png_chunk(*body) * 4) for name, body in bodies.items()}


def seeds() -> dict[str, list[bytes]]:
    """Seed files of the fuzzers, by codec."""
    jpegs = [jpeg_of_size(0, SIDE), jpeg_of_size(60000, 60000), jpeg_of_size(60000, 60000, True)]
    jpegs += [*bad_huffman_codes(), cut_and_closed(), flood_of_scans(40), without_segments(GOOD["jpeg"], 0xDB)]
    pngs = [png_of_size(0, SIDE), png_of_size(60000, 60000)]
    pngs += [png(pixels(4, 9), 8, 2, before=chunk) for chunk in raw_profiles(6)]
    lies = [exif_directory("<", 2**32 - 1, []), exif_directory(">", 8, [(0x0112, 3, 2**31, 6)], extra=3)]
    return {"jpeg": jpegs, "png": pngs, "webp": [webp_of_size(16384, 16384)], "exif": lies}
