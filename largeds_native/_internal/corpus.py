"""Real images for the demo and the benchmarks, made from files in installed packages: nothing is downloaded.

The photographs are in the wheels of scikit-image and scikit-learn, the digits are scikit-learn's. Every image is a
function of (seed, its number) alone, so a corpus is the same wherever it is made with the same Pillow.
"""

from __future__ import annotations

import functools
import gzip
import importlib.util
import json
import os
import shutil
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from largeds_native._internal.machine import usable_threads
from largeds_native.errors import ArgumentError, LargedsError

VERSION = 1

# Colour photographs that are large enough to crop, as (class, package, path in the package).
PHOTOGRAPHS = (
    ("astronaut", "skimage", "data/astronaut.png"),
    ("cat", "skimage", "data/chelsea.png"),
    ("coffee", "skimage", "data/coffee.png"),
    ("flower", "sklearn", "datasets/images/flower.jpg"),
    ("galaxies", "skimage", "data/hubble_deep_field.jpg"),
    ("motorcycle", "skimage", "data/motorcycle_left.png"),
    ("retina", "skimage", "data/retina.jpg"),
    ("rocket", "skimage", "data/rocket.jpg"),
    ("temple", "sklearn", "datasets/images/china.jpg"),
    ("tissue", "skimage", "data/ihc.png"),
)

# (width, height, share): ImageNet's sizes, roughly
SIZES = ((500, 375, 0.70), (375, 500, 0.20), (1024, 768, 0.10))
# amplitude of the noise, chosen so that files have about 100 kB on average
GRAIN = 6


def jpeg_corpus(folder: str | os.PathLike[str], n: int, seed: int = 0) -> Path:
    """Write `n` JPEG files similar to ImageNet's, one folder per class: most 500x375, some 375x500 or 1024x768, quality
    90 to 96, 4:2:0 or 4:4:4, about 100 kB each. A folder that already holds this corpus is not changed."""
    return _make_once(
        Path(folder), {"kind": "jpeg", "n": n, "seed": seed}, lambda tmp: _parallel(_write_jpeg, tmp, seed, n)
    )


def photo_corpus(folder: str | os.PathLike[str], n: int, seed: int = 0) -> Path:
    """Write `n` photographs of 12 megapixels (4000x3000, quality 92, 4:2:0), one folder per class."""
    return _make_once(
        Path(folder), {"kind": "photo", "n": n, "seed": seed}, lambda tmp: _parallel(_write_photo, tmp, seed, n)
    )


def digits_tree(folder: str | os.PathLike[str]) -> Path:
    """Write scikit-learn's 1,797 handwritten digits (8x8, grey) as PNG files in one folder per digit."""
    return _make_once(Path(folder), {"kind": "digits"}, _write_digits)


def _make_once(folder: Path, spec: dict[str, Any], make: Callable[[Path], None]) -> Path:
    """Run `make` on a temporary folder and rename it, unless the stamp beside `folder` shows that it exists already."""
    if spec.get("n", 1) < 1:
        raise ArgumentError(f"n, the number of images to make, must be at least 1, found {spec['n']}")
    stamp = folder.with_name(folder.name + ".corpus.json")
    spec = {"version": VERSION, **spec}
    if folder.is_dir() and stamp.is_file() and stamp.read_text() == json.dumps(spec):
        return folder
    if folder.exists() and not stamp.is_file():
        raise ArgumentError(f"{folder} exists and is not a corpus of largeds: choose another folder or remove it")
    temporary = folder.with_name(folder.name + f".tmp-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        make(temporary)
        stamp.unlink(missing_ok=True)
        if folder.exists():
            shutil.rmtree(folder)
        stamp.write_text(json.dumps(spec))
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _parallel(write: Callable[[Path, int, int], None], folder: Path, seed: int, n: int) -> None:
    # Pillow releases the GIL while it resizes and encodes, so threads suffice.
    for name, _, _ in PHOTOGRAPHS:
        (folder / name).mkdir()
        _photograph(name)
    with ThreadPoolExecutor(usable_threads()) as pool:
        deque(pool.map(lambda i: write(folder, seed, i), range(n)), maxlen=0)


def _packaged_file(package: str, inside: str) -> Path:
    # find_spec finds a package without importing it; importing skimage and sklearn takes seconds
    found = importlib.util.find_spec(package)
    roots = list(found.submodule_search_locations or ()) if found else []
    for root in roots:
        if (Path(root) / inside).is_file():
            return Path(root) / inside
    raise LargedsError(
        f"the images come from the package {'scikit-image' if package == 'skimage' else 'scikit-learn'}, which is "
        "not installed; type: pip install 'largeds-native[demo]'"
    )


@functools.cache
def _photograph(name: str) -> Image.Image:
    package, inside = next((package, inside) for known, package, inside in PHOTOGRAPHS if known == name)
    image = Image.open(_packaged_file(package, inside)).convert("RGB")
    image.load()
    return image


def _photograph_piece(rng: np.random.Generator, width: int, height: int, i: int) -> tuple[str, Image.Image]:
    """A random piece of a photograph, resized to width x height, with noise that hides the blur of upscaling."""
    name = PHOTOGRAPHS[i % len(PHOTOGRAPHS)][0]
    photograph = _photograph(name)
    largest = min(photograph.width / width, photograph.height / height)
    scale = largest * rng.uniform(0.6, 1.0)
    w, h = width * scale, height * scale
    left, top = rng.uniform(0, photograph.width - w), rng.uniform(0, photograph.height - h)
    piece = photograph.resize((width, height), Image.Resampling.BICUBIC, box=(left, top, left + w, top + h))
    if rng.random() < 0.5:
        piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    # noise in the luminance alone, as raw converters leave it
    y, cb, cr = piece.convert("YCbCr").split()
    pixels = np.asarray(y, np.float32) * np.float32(rng.uniform(0.85, 1.15))
    pixels += rng.integers(-GRAIN, GRAIN + 1, (height, width), np.int8)
    y = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return name, Image.merge("YCbCr", (y, cb, cr))


def _write_jpeg(folder: Path, seed: int, i: int) -> None:
    rng = np.random.default_rng([seed, i])
    draw = rng.random()
    width, height = SIZES[-1][:2]
    for w, h, share in SIZES:
        if draw < share:
            width, height = w, h
            break
        draw -= share
    name, image = _photograph_piece(rng, width, height, i)
    quality = int(rng.integers(90, 97))
    subsampling = 0 if rng.random() < 0.25 else 2  # Pillow's numbers for 4:4:4 and 4:2:0
    image.save(folder / name / f"{i:06d}.jpg", quality=quality, subsampling=subsampling)


def _write_photo(folder: Path, seed: int, i: int) -> None:
    rng = np.random.default_rng([seed, i])
    name, image = _photograph_piece(rng, 4000, 3000, i)
    image.save(folder / name / f"{i:06d}.jpg", quality=92, subsampling=2)


def _write_digits(folder: Path) -> None:
    with gzip.open(_packaged_file("sklearn", "datasets/data/digits.csv.gz"), "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.int64)
    for digit in range(10):
        (folder / str(digit)).mkdir()
    for i, row in enumerate(table):
        pixels = np.minimum(row[:-1].reshape(8, 8) * 16, 255).astype(np.uint8)  # 0..16 -> 0..255
        Image.fromarray(pixels).save(folder / str(row[-1]) / f"{i:04d}.png")
