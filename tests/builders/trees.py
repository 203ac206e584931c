"""Small trees of image files to pack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def smooth_pixels(seed: int, height: int = 20, width: int = 30) -> np.ndarray:
    """Smooth random colours."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (4, 4, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def make_tree(root: Path, classes: int = 3, each: int = 4, height: int = 20, width: int = 30) -> list[Path]:
    """A class-per-folder tree of PNG, JPEG, and WebP files; their paths in order."""
    paths = []
    for label in range(classes):
        folder = root / f"class{label}"
        folder.mkdir(parents=True)
        for i in range(each):
            path = folder / f"{i:04d}{('.png', '.jpg', '.webp')[i % 3]}"
            options = {"lossless": True} if path.suffix == ".webp" else {"quality": 92} if path.suffix == ".jpg" else {}
            Image.fromarray(smooth_pixels(label * 1000 + i, height, width)).save(path, **options)
            paths.append(path)
    return paths
