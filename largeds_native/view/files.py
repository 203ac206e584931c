"""The files that a store was made from, where they are still there."""

from __future__ import annotations

import os
import stat
import warnings
from pathlib import Path

from PIL import Image, ImageOps

# Pillow's own decoders; others start programs (EPS) or open what was never packed
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")


def thumbnail(root: str | None, name: str, side: int) -> Image.Image | None:
    """The file `name` below the folder `root`, at most side x side pixels; None where it can't be shown.

    Both come from the store, so nothing outside of `root` is opened, and nothing that is no regular file.
    """
    if not root or not os.path.isabs(root):
        return None
    path = Path(os.path.normpath(os.path.join(root, name)))
    if not path.is_relative_to(os.path.normpath(root)):
        return None
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                image.draft("RGB", (2 * side, 2 * side))  # a large JPEG is decoded at a smaller scale
                image.thumbnail((side, side))
                return ImageOps.exif_transpose(image).convert("RGB")
    except Exception:  # a damaged file can raise anything; that it is damaged is what the tile says
        return None
