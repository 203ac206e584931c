"""`largeds view`"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from largeds_native._internal.urls import is_url
from largeds_native.cli import completion
from largeds_native.cli.info import class_counts, each_image, failed_samples
from largeds_native.cli.output import emit_json, size
from largeds_native.cli.pictures import check_picture_path, write_picture
from largeds_native.cli.stores import CACHE, CACHE_BYTES, open_stores, place
from largeds_native.cli.values import (
    FLIP,
    JSON,
    PADDING,
    QUIET,
    RANDOM_CROP,
    RESIZED_CROP,
    ROWS,
    SEED,
    VERTICAL_FLIP,
    augment_from,
    row_numbers,
)
from largeds_native.errors import ArgumentError, StoreError

if TYPE_CHECKING:
    from largeds_native._internal.progress_bar import ProgressCallback
    from largeds_native.store import Store
    from largeds_native.transform import Augment
    from largeds_native.view.tiles import ContactSheet, FailedTile

TILES = 2000  # largest number of tiles on a sheet
LISTED = 1000  # largest number of failures on a page; `largeds info --failures` lists all


def view(
    paths: Annotated[
        list[Path],
        typer.Argument(
            parser=place,
            metavar="STORE... [OUT]",
            help="The store, its URL, or several, which are joined as by lds.concat; then the .png or .html to write. "
            "Default: the store's name, in this folder.",
        ),
    ],
    html: Annotated[
        bool,
        typer.Option("--html", help="Write a page with images, classes, failures and report, which needs no network."),
    ] = False,
    rows: ROWS = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--class", help="Only this class, by name or number; can be repeated.", autocompletion=completion.CLASSES
        ),
    ] = None,
    failures: Annotated[bool, typer.Option("--failures", help="Show the images that failed, with the reason.")] = False,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=TILES, help="Largest number of images.")] = 32,
    variants: Annotated[int, typer.Option(min=1, max=16, help="Largest number of variants beside each image.")] = 4,
    flip: FLIP = 0.0,
    vertical_flip: VERTICAL_FLIP = 0.0,
    random_crop: RANDOM_CROP = None,
    padding: PADDING = 0,
    resized_crop: RESIZED_CROP = None,
    seed: SEED = 0,
    cache: CACHE = None,
    cache_bytes: CACHE_BYTES = None,
    quiet: QUIET = False,
    json: JSON = False,
) -> None:
    """Draw a contact sheet of a store: a PNG, or with --html a page that also has the report and the class counts.

    \b
    Examples:
      largeds view train.lds
      largeds view train.lds cats.png --class cat --class lynx -n 64
      largeds view train.lds --rows 0-15,900
      largeds view train.lds augmented.png --resized-crop 192 --flip 0.5
      largeds view train.lds failures.png --failures
      largeds view train.lds page.html --html
      largeds view photos.lds drawings.lds both.png

    Without --rows or --class, the images are evenly spaced over the store. With --flip, --vertical-flip, --random-crop
    or --resized-crop, the variants are those that a Loader with this Augment and seed draws in its first epochs;
    without, they are those that `pack` stored.
    """
    from largeds_native._internal.progress_bar import progress_of

    if sum((rows is not None, bool(classes), failures)) > 1:
        raise typer.BadParameter("--rows, --class and --failures exclude each other: pass only one of them")
    stores, out = _stores_and_out(paths)
    chosen, augment = row_numbers(rows), augment_from(flip, vertical_flip, random_crop, padding, resized_crop)
    html = html or (out is not None and out.suffix.lower() in (".html", ".htm"))
    with open_stores(stores, cache, cache_bytes) as opened, progress_of(not (quiet or json), "drawing") as on_progress:
        name = opened.location.rstrip("/").rpartition("/")[2].removesuffix(".lds")
        kinds = (".html", ".htm") if html else (".png",)
        path = check_picture_path(Path(f"{name or 'store'}{kinds[0]}") if out is None else out, kinds)
        chosen_rows = _chosen_rows(opened, chosen, classes or [], failures, count)
        sheet = _contact_sheet(opened, chosen_rows, augment, variants, seed, on_progress)
        if failures or html:
            sheet.failed, sheet.failures_summary = _failures(opened, LISTED if html else count, failures, on_progress)
        if failures and not html and not sheet.failed:
            raise ArgumentError(f"{opened.path}: no image failed, so there is nothing to draw")
        data = _page(opened, sheet) if html else _sheet(opened, sheet)
    write_picture(path, data)
    if json:
        emit_json({"file": str(path), "bytes": len(data), "rows": chosen_rows, "failures": len(sheet.failed)})
    elif not quiet:
        print(f"{path}: {size(len(data))}")


def _stores_and_out(paths: list[Path]) -> tuple[list[Path], Path | None]:
    """The last of several paths is what to write, if it is named as a picture or page, or is nothing that exists."""
    last = paths[-1]
    if len(paths) > 1 and not is_url(last) and (last.suffix.lower() in (".png", ".html", ".htm") or not last.exists()):
        return paths[:-1], last
    return paths, None


def _chosen_rows(store: Store, rows: list[int] | None, classes: list[str], failures: bool, count: int) -> list[int]:
    from largeds_native.view import choose

    if failures:
        return []
    if rows is not None:
        return choose.of_rows(store, rows, count)
    return choose.of_classes(store, classes, count) if classes else choose.of_all(store, count)


def _contact_sheet(
    store: Store,
    rows: list[int],
    augment: Augment | None,
    variants: int,
    seed: int,
    on_progress: ProgressCallback,
) -> ContactSheet:
    from largeds_native.view.collect import tile_rows_of
    from largeds_native.view.tiles import ContactSheet, printable

    each = 1 + len(store.metadata.pictures) + variants * (augment is not None or store.variants > 1)
    if len(rows) * each > TILES:
        raise ArgumentError(f"{len(rows):,} images with {each - 1} variants each: expected at most {TILES:,} tiles")
    if augment is not None and store.metadata.varies and not augment.fixes_size:
        raise ArgumentError(f"--flip: the images of {store.path} have many sizes: pass --resized-crop 224 too")
    facts = f"{len(store):,} images, {each_image(store.metadata)}"
    summary = f"{len(rows):,} of {len(store):,}" if rows else ""
    if augment:
        epochs = f"{variants} epochs" if variants > 1 else "epoch"
        summary += f"; beside each, its variants in the first {epochs} of a Loader (seed {seed})"
    elif store.variants > 1:
        summary += f"; beside each, {min(variants, store.variants)} of its {store.variants} stored variants"
    pictures = store.metadata.pictures.items()
    for names, where in (
        ([name for name, spec in pictures if spec.is_mask], "drawn over them"),
        ([name for name, spec in pictures if not spec.is_mask], "beside them"),
    ):
        if names:
            summary += f"; {', '.join(names)} {where}"
    if store.mean:
        summary += "; normalised floats, shown before normalisation"
    tile_rows = tile_rows_of(store, rows, augment=augment, variants=variants, seed=seed, on_progress=on_progress)
    return ContactSheet(printable(store.path.name), facts, summary, tile_rows)


def _failures(store: Store, limit: int, needed: bool, on_progress: ProgressCallback) -> tuple[list[FailedTile], str]:
    """Tiles of the first failures, and a sentence about all failures."""
    from largeds_native.view.collect import PICTURES, failed_tiles, report_of

    try:
        found = failed_tiles(store, itertools.islice(failed_samples(store), limit), PICTURES, on_progress)
    except StoreError as error:
        if needed:
            raise
        return [], str(error)
    report = report_of(store)
    total = max(len(found), sum(report.failed.values()) if report else 0)
    if not total:
        return [], "No image failed."
    more = f"; the first {len(found):,} are listed, `largeds info --failures` lists all" if total > len(found) else ""
    return found, f"{total:,} image{'s are' if total > 1 else ' is'} not in the store{more}"


def _sheet(store: Store, sheet: ContactSheet) -> bytes:
    from largeds_native.view.sheet import sheet_png

    return sheet_png(sheet, (1, 1) if store.metadata.varies else store.image_size)


def _page(store: Store, sheet: ContactSheet) -> bytes:
    from largeds_native.view.collect import report_of
    from largeds_native.view.page import page_html

    report = report_of(store)
    lines = [("packed", f"{report.packed:,} of {report.total:,} images"), *report.lines()] if report else []
    return page_html(sheet, class_counts(store), lines)
