"""The page: one HTML file that needs no network. All text from the store is escaped, and the page's content security
policy allows only the script with the given hash."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources

from PIL import Image

from largeds_native.store.display import data_uri
from largeds_native.view.pixels import fitted
from largeds_native.view.tiles import ContactSheet, printable

LARGEST = 256  # largest side of a picture on the page, in pixels
SMALL = 64  # pictures up to this side are magnified, so that each pixel is visible, and written as PNG


def page_html(sheet: ContactSheet, histogram: Mapping[str, int], report: Sequence[tuple[str, str]]) -> bytes:
    """The page as UTF-8. `histogram`: images of each class, {} without classes; `report`: names and values."""
    from jinja2 import Environment, StrictUndefined  # comes with torch

    folder = resources.files(__package__)
    template, style, script = ((folder / f"page.{kind}").read_text("utf-8") for kind in ("html", "css", "js"))
    # autoescape escapes every value from the store
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.globals.update(uri=_uri, sha256=_sha256)
    counts = list(histogram.values())
    text = environment.from_string(template).render(
        sheet=sheet,
        histogram=[(printable(name), count) for name, count in histogram.items()],
        fewest=min(counts, default=0),
        most=max(counts, default=0),
        report=[(name, printable(value)) for name, value in report],
        side=160,
        style=style,
        script=script,
    )
    return text.encode("utf-8", "replace")


def _uri(picture: Image.Image) -> str:
    if max(picture.size) <= SMALL:
        return data_uri(fitted(picture, LARGEST, LARGEST))
    return data_uri(fitted(picture, LARGEST, LARGEST) if max(picture.size) > LARGEST else picture, "jpeg", quality=90)


def _sha256(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
