"""Opens the original files of a store, if they still exist."""

from __future__ import annotations

import os
import stat
import warnings
from pathlib import Path

from PIL import Image, ImageOps

# other decoders of Pillow start programs (EPS) or open what `pack` does not accept
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")


def thumbnail(root: str | None, name: str, side: int) -> Image.Image | None:
    """The file `name` below the folder `root`, reduced to at most side x side pixels; None if it can't be shown.

    Both come from the store, which is not trusted: only regular files inside of `root` are opened.
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
    except Exception:  # damaged files raise exceptions of any type; the tile shows that there is no picture
        return None
