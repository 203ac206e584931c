"""Resizes pictures for display."""

from __future__ import annotations

from PIL import Image


def fitted(picture: Image.Image, width: int, height: int) -> Image.Image:
    """Resized to fit: small pictures by whole factors, so that each pixel is visible; large ones smoothly."""
    scale = min(width / picture.width, height / picture.height)
    if scale >= 1:
        factor = int(scale)
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.resize(size, Image.Resampling.LANCZOS)
