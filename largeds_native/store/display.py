"""A store for the eye: rows as pixels, and a few of them with their labels for a notebook."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

    from largeds_native.store.npy import Array
    from largeds_native.store.store import Store

SHOWN = 8  # images in a notebook
SIDE = 96  # pixels of the longer side there
FIGURE = '<figure style="margin:0 4px 4px 0;text-align:center"><img alt="row {row}" src="{source}"/>'


def visible(image: Array, layout: str, mean: Sequence[float] | None, std: Sequence[float] | None) -> Array:
    """One image, (C, H, W) or (H, W, C), as uint8 of shape (H, W, 3), or (H, W) for one channel.

    Floats are x * std + mean where these were baked in; without, floats that leave [0, 1] are stretched from their
    smallest to their largest value. What is no number is black.
    """
    image = np.moveaxis(image, 0, -1) if layout == "CHW" else np.asarray(image)
    if image.dtype != np.uint8:
        finite = np.isfinite(image)
        values = np.where(finite, image, 0).astype(np.float32)
        if mean is not None and std is not None:
            values = values * np.asarray(std, np.float32) + np.asarray(mean, np.float32)
        elif values.size and (values.min() < 0 or values.max() > 1):
            low, high = float(values.min()), float(values.max())
            values = (values - low) / max(high - low, 1e-12)
        image = np.rint(np.where(finite, values, 0) * 255).clip(0, 255).astype(np.uint8)
    return image[..., 0] if image.shape[-1] == 1 else image


def caption(store: Store, label: Any) -> str:
    """A label in words: the name of its class where there is one."""
    if label is None:
        return ""
    if np.ndim(label) == 0 and np.asarray(label).dtype.kind in "iu" and 0 <= int(label) < len(store.classes):
        return store.classes[int(label)]
    text = str(np.asarray(label).tolist())
    return text if len(text) <= 24 else text[:21] + "..."


def as_html(store: Store) -> str:
    """The facts, and images spread evenly over the store (the first of several variants), all in one fragment."""
    figures = []
    for row in sorted({i * (len(store) - 1) // (SHOWN - 1) for i in range(SHOWN)} if len(store) else ()):
        image, label = store[row]
        picture = picture_of(image[0] if store.variants > 1 else image, store.layout, store.mean, store.std)
        picture.thumbnail((SIDE, SIDE))
        text = html.escape(caption(store, label))
        figures.append(f"{FIGURE.format(row=row, source=data_uri(picture))}<figcaption>{text}</figcaption></figure>")
    facts = html.escape("; ".join(store.summary()))
    sheet = f'<div style="display:flex;flex-wrap:wrap">{"".join(figures)}</div>'
    return f"<div><p><b>{html.escape(str(store.path))}</b><br/>{facts}</p>{sheet}</div>"


def picture_of(
    image: Array, layout: str, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> Image.Image:
    """One image, (C, H, W) or (H, W, C) with 1 or 3 channels, as Pillow's "L" or "RGB"; see `visible`."""
    from PIL import Image

    return Image.fromarray(np.ascontiguousarray(visible(image, layout, mean, std)))


def data_uri(picture: Image.Image, kind: str = "png", **options: Any) -> str:
    """The picture as a file inside a page; kind: "png" or "jpeg"."""
    file = io.BytesIO()
    picture.save(file, kind.upper(), **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
