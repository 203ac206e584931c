"""Writes csrc/codec/jpeg_samples.h: python -m tests.codec.make_jpeg_samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.builders.images import Pixels, encode

TARGET = Path(__file__).parents[2] / "csrc" / "codec" / "jpeg_samples.h"
HEAD = """\
// One picture in two JPEG files, without and with restart markers: 72 x 56 pixels, 4:2:0, Huffman tables of their own.
// Written by tests/codec/make_jpeg_samples.py.
#pragma once

#include <cstdint>

namespace lds {

constexpr int kSampleWidth = 72, kSampleHeight = 56;

// clang-format off
"""
TAIL = """\
// clang-format on

}  // namespace lds
"""


def picture() -> Pixels:
    """Different contents in each MCU of 16 x 16 pixels; the last MCUs extend over the edges."""
    y, x = np.mgrid[:56, :72]
    channels = [128 + 100 * np.sin(x / 5 + y / 9), 128 + 100 * np.cos(y / 6), (x // 7 + y // 9) % 2 * 180 + x / 2]
    return np.stack(channels, -1).clip(0, 255).astype(np.uint8)


def array(name: str, data: bytes) -> str:
    lines = (", ".join(map(str, data[at : at + 22])) for at in range(0, len(data), 22))
    return f"constexpr uint8_t {name}[] = {{\n" + "".join(f"    {line},\n" for line in lines) + "};\n"


def main() -> None:
    names = {"kPlainSample": 0, "kRestartSample": 3}
    files = {
        name: encode(picture(), quality=10, subsampling="4:2:0", optimize=True, restart_marker_blocks=blocks)
        for name, blocks in names.items()
    }
    TARGET.write_text(HEAD + "".join(array(name, data) for name, data in files.items()) + TAIL)


if __name__ == "__main__":
    main()
