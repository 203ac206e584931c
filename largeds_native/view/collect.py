"""Collects from a store what is shown of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from largeds_native._internal.arrays import Array
from largeds_native.store import ConcatStore, PackedStore, parts_of
from largeds_native.store.display import picture_of
from largeds_native.view.choose import label_of
from largeds_native.view.files import thumbnail
from largeds_native.view.pixels import fitted, overlay
from largeds_native.view.tiles import FailedTile, Tile, TileRow, printable

if TYPE_CHECKING:
    from largeds_native._internal.progress_bar import ProgressCallback
    from largeds_native.store import Store
    from largeds_native.store.report import Report
    from largeds_native.transform import Augment

SIDE = 256  # largest side of a picture, in pixels
PICTURES = 200  # failed files with a thumbnail; further ones are only listed


def tile_rows_of(
    store: Store,
    rows: Sequence[int],
    *,
    augment: Augment | None,
    variants: int,
    seed: int,
    on_progress: ProgressCallback,
) -> list[TileRow]:
    """Each row's image, and beside it `variants` of its variants: drawn by a Loader with `augment`, or stored."""
    sources = sources_of(store, rows)
    drawn = _drawn(store, rows, augment, variants, seed) if augment else [[] for _ in rows]
    tile_rows = []
    for done, row in enumerate(rows):
        caption = f"#{row}: {label_of(store, row)}".removesuffix(": ")
        source = sources.get(row, "")
        if store.variants > 1 and not augment:
            tiles = _variants(store, row, caption, source, variants)
        else:
            stored = store.images[row] if store.variants == 1 else store.images[row][0]
            tiles = [Tile(_picture(store, stored), caption), *_with_pictures(store, row, stored)]
        pictures = [Tile(picture, f"epoch {epoch}") for epoch, picture in enumerate(drawn[done])]
        tile_rows.append(TileRow((*tiles, *pictures), printable(source)))
        on_progress(done + 1, len(rows))
    return tile_rows


def _with_pictures(store: Store, row: int, image: Any) -> list[Tile]:
    """Each mask, drawn over the image, and each other picture."""
    tiles = []
    for name, spec in store.metadata.pictures.items():
        values = np.asarray(store[name][row])
        over_image = spec.is_mask and overlay(picture_of(image, store.layout), values, spec.ignore)
        tiles.append(Tile(_fitted_down(over_image or picture_of(values, "CHW")), name))
    return tiles


def _fitted_down(picture: Image.Image) -> Image.Image:
    return fitted(picture, SIDE, SIDE) if max(picture.size) > SIDE else picture


def _picture(store: Store, row: Any) -> Image.Image:
    # a JPEG row may have many megapixels, and thousands of pictures are held
    return _fitted_down(picture_of(row, store.layout, store.mean, store.std))


def _variants(store: Store, row: int, caption: str, source: str, variants: int) -> list[Tile]:
    """The original file, if it still exists, and the variants made from it."""
    stored = store.images[row][:variants]
    tiles = [Tile(_picture(store, one), f"variant {i}") for i, one in enumerate(stored)]
    original = thumbnail(_root(store), source, SIDE) if source else None
    if original is not None:
        return [Tile(original, caption, "original file"), *tiles]
    return [Tile(tiles[0].picture, caption, "variant 0"), *tiles[1:]]


def _drawn(store: Store, rows: Sequence[int], augment: Augment, epochs: int, seed: int) -> list[list[Image.Image]]:
    """The images that a Loader with this augment and seed yields for each row in its first epochs, with the first of
    their masks drawn over them."""
    import torch

    from largeds_native.loading import Loader

    dtype = torch.uint8 if store.dtype == np.uint8 else torch.float32
    drawn: list[list[Image.Image]] = [[] for _ in rows]
    # with indices, not a sampler, the augmentation is drawn from (seed, epoch, row)
    subset: dict[str, Any] = {"indices": list(rows), "seed": seed, "augment": augment, "dtype": dtype}
    masks = tuple(name for name, spec in store.metadata.pictures.items() if spec.is_mask)[:1]
    with Loader(store, 16, **subset, fields=masks, prefetch=1) as loader:
        for _ in range(epochs):
            samples = itertools.chain.from_iterable(
                zip(*(part.numpy() for part in batch), strict=True) for batch in loader
            )
            for pictures, (image, *mask) in zip(drawn, samples, strict=True):
                picture = picture_of(_numbers_of(store, image), "CHW", store.mean, store.std)
                ignore = store.metadata.pictures[masks[0]].ignore if masks else None
                pictures.append(overlay(picture, mask[0], ignore) if mask else picture)
    return drawn


def _numbers_of(store: Store, image: Array) -> Array:
    """An image of a Loader as what the store has: of 16 bits in the numbers of 16 bits, which are shown stretched."""
    if store.dtype.kind != "u" or store.dtype == np.uint8:
        return image
    numbers: Array = np.rint(image * np.iinfo(store.dtype).max).astype(store.dtype)
    return numbers


def report_of(store: Store) -> Report | None:
    """The report of the pack; None if the store was not packed, or has no report."""
    return store.report if isinstance(store, PackedStore) else None


def _root(store: Store) -> str | None:
    report = report_of(store)
    return report.root if report else None


def sources_of(store: Store, rows: Iterable[int]) -> dict[int, str]:
    """The source names of the rows, if the store records them. Only the shards with these rows are read."""
    if isinstance(store, ConcatStore):
        return {
            row: name
            for row in rows
            for part, number in [store.row_in_store(row)]
            for name in sources_of(part, [number]).values()
        }
    if not isinstance(store, PackedStore):
        return {}
    starts = np.array([shard.start for shard in store.shards], np.int64)
    unique_rows = np.unique(np.fromiter(rows, np.int64))
    found: dict[int, str] = {}
    for shard in np.unique(np.searchsorted(starts, unique_rows, "right") - 1).tolist():
        table = store.samples_of([shard])
        numbers = np.asarray(table["row"])
        positions = np.flatnonzero(np.isin(numbers, unique_rows))
        names = table["source"].take(positions).to_pylist()
        found.update(zip(numbers[positions].tolist(), (str(name) for name in names), strict=True))
    return found


def failed_tiles(
    store: Store, samples: Iterable[dict[str, Any]], pictures: int, on_progress: ProgressCallback
) -> list[FailedTile]:
    """Tiles of failed samples; the first `pictures` have a thumbnail of their file, if it can be opened."""
    roots = {str(part.path): _root(part) for part in parts_of(store)}
    found = []
    for done, sample in enumerate(samples):
        root = roots[sample.get("store", str(store.path))]
        source, reason, error = (str(sample[key] or "") for key in ("source", "status", "error"))
        picture = thumbnail(root, source, SIDE) if done < pictures else None
        found.append(FailedTile(printable(source), printable(reason), printable(error), picture))
        on_progress(done + 1, max(done + 1, pictures))
    return found
