"""Which format an image is that neither the core nor Pillow reads, and what would read it."""

from __future__ import annotations

BRANDS = {
    b"HEIC": (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
    b"AVIF": (b"avif", b"avis"),
}
HEIC = "HEIC, which Pillow reads with the package pillow-heif, after pillow_heif.register_heif_opener()"
AVIF = "AVIF, which Pillow reads from version 11.3 on"
JPEG_XL = "JPEG XL, which Pillow reads with the package pillow-jxl-plugin, after import pillow_jxl"
DEEP_JPEG = "a JPEG of {} bits a channel, expected 8: save it with 8 bits, as djpeg of libjpeg-turbo 3 can"
UNKNOWN = "no image of a format that the core or Pillow knows"
HEAD = 1 << 16  # bytes that are looked at


def describe_unknown(data: bytes) -> str:
    """A sentence, from the first bytes of a file."""
    if data[4:8] == b"ftyp":
        if data[8:12] in BRANDS[b"HEIC"]:
            return HEIC
        if data[8:12] in BRANDS[b"AVIF"]:
            return AVIF
    if data.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")):
        return JPEG_XL
    bits = _jpeg_precision(data) if data.startswith(b"\xff\xd8\xff") else 8
    return UNKNOWN if bits == 8 else DEEP_JPEG.format(bits)


def _jpeg_precision(data: bytes) -> int:
    """Bits a channel, from the frame header; 8 where none is found."""
    at = 2
    while at + 5 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return data[at + 4]
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return 8
