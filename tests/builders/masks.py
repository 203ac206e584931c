"""Trees of images and of their masks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.builders.images import pixels


@dataclass(frozen=True)
class MaskTree:
    """Folders with images and masks of the same names, and the masks in the order of the images."""

    images: Path
    masks: Path
    numbers: list[np.ndarray[Any, Any]]


def mask_numbers(height: int, width: int, seed: int, highest: int = 20) -> np.ndarray[Any, Any]:
    """Blocks of numbers, as of objects."""
    dtype = np.uint8 if highest < 256 else np.uint16
    blocks = np.random.default_rng(seed).integers(0, highest + 1, (height // 4 + 1, width // 4 + 1), dtype)
    return np.repeat(np.repeat(blocks, 4, 0), 4, 1)[:height, :width]


def save_mask(numbers: np.ndarray[Any, Any], path: Path, palette: bool = False, **options: Any) -> None:
    image = Image.fromarray(numbers)
    if palette:
        image = Image.fromarray(numbers, "P")
        image.putpalette(list(np.random.default_rng(0).integers(0, 256, 768)))
    image.save(path, **options)


def make_mask_tree(
    root: Path, each: int = 4, *, highest: int = 20, one_size: bool = False, ending: str = ".png"
) -> MaskTree:
    """Two classes of JPEG images of several sizes; every other mask of 8 bits has a palette."""
    numbers = []
    for label in range(2):
        for kind in ("images", "masks"):
            (root / kind / f"class{label}").mkdir(parents=True)
        for i in range(each):
            seed = label * each + i
            height, width = (40, 48) if one_size else (40 + 3 * i, 52 - 2 * i)
            Image.fromarray(pixels(height, width, seed=seed)).save(root / f"images/class{label}/{i:02}.jpg", quality=92)
            numbers.append(mask_numbers(height, width, seed, highest))
            save_mask(numbers[-1], root / f"masks/class{label}/{i:02}{ending}", palette=highest < 256 and i % 2 == 1)
    return MaskTree(root / "images", root / "masks", numbers)
