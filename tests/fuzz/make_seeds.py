"""Writes seed files for the fuzz targets: python -m tests.fuzz.make_seeds FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from tests.attacks import images as attacks
from tests.builders.images import (
    PNG_SAMPLES,
    encode,
    exif_block,
    pixels,
    png,
    png_chunk,
    with_luma_sampling,
    with_segment,
)


def jpegs() -> list[bytes]:
    image = Image.fromarray(pixels(40, 48))
    seeds = [encode(image.convert(mode)) for mode in ("L", "RGB", "CMYK")]
    seeds += [
        encode(image, subsampling=subsampling, progressive=progressive, restart_marker_blocks=5)
        for subsampling in ("4:4:4", "4:2:2", "4:2:0", "4:1:1")
        for progressive in (False, True)
    ]
    seeds.append(encode(image, keep_rgb=True))
    seeds.append(with_luma_sampling(encode(image, subsampling="4:2:2"), 1, 2))
    seeds.append(with_segment(encode(image, optimize=True), 0xE1, b"Exif\0\0" + exif_block(6)))
    return seeds


def pngs() -> list[bytes]:
    seeds = []
    kinds = [(colour, 8) for colour in PNG_SAMPLES] + [
        (0, 1),
        (0, 2),
        (0, 4),
        (0, 16),
        (2, 16),
        (3, 4),
        (4, 16),
        (6, 16),
    ]
    for colour, depth in kinds:
        samples = np.random.default_rng(0).integers(0, 1 << depth, (9, 11, PNG_SAMPLES[colour]))
        chunks = png_chunk(b"PLTE", bytes(3 << depth)) if colour == 3 else b""
        chunks += png_chunk(b"eXIf", exif_block(5))
        seeds += [png(samples, depth, colour, interlace=interlace, before=chunks) for interlace in (False, True)]
    return seeds


def webps() -> list[bytes]:
    frames = [Image.fromarray(pixels(30, 34, 4, seed)) for seed in range(2)]
    seeds = [
        encode(frames[0].convert(mode), "WEBP", lossless=lossless) for mode in ("RGB", "RGBA") for lossless in (0, 1)
    ]
    seeds.append(encode(frames[0], "WEBP", save_all=True, append_images=frames[1:]))
    seeds.append(encode(frames[0], "WEBP", exif=b"Exif\0\0" + exif_block(8)))
    return seeds


def main(folder: Path) -> None:
    seeds = {"jpeg": jpegs(), "png": pngs(), "webp": webps()}
    seeds["exif"] = [exif_block(3, order, kind) for order in "<>" for kind in "HI"] + seeds["jpeg"][-1:]
    for name, files in attacks.seeds().items():
        seeds[name] += files
    large = encode(pixels(300, 400, seed=1), quality=100, subsampling="4:4:4", restart_marker_blocks=7)
    seeds["jpeg_structure"] = [*seeds["jpeg"], large]  # of more than 64 KB
    seeds["row"] = seeds["jpeg_row"] = seeds["jpeg"] + seeds["png"] + seeds["webp"]
    for name in ("shards", "offsets"):
        seeds[name] = [bytes(np.random.default_rng(seed).integers(0, 256, 300, np.uint8)) for seed in range(40)]
    for name, files in seeds.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i, data in enumerate(files):
            # some bytes after the end: the targets take their options from there
            (folder / name / f"seed-{i}").write_bytes(data + bytes((7 * i + j) % 256 for j in range(12)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
