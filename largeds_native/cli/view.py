"""`largeds view`"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from largeds_native.cli.info import class_counts, failed_samples
from largeds_native.cli.output import emit_json, size
from largeds_native.cli.pictures import check_picture_path, write_picture
from largeds_native.cli.values import (
    FLIP,
    JSON,
    PADDING,
    QUIET,
    RANDOM_CROP,
    RESIZED_CROP,
    ROWS,
    SEED,
    STORE,
    augment_from,
    row_numbers,
)
from largeds_native.errors import ArgumentError, StoreError

if TYPE_CHECKING:
    from largeds_native.interchange.progress import ProgressCallback
    from largeds_native.store import Store
    from largeds_native.transform import Augment
    from largeds_native.view.tiles import ContactSheet, FailedTile

TILES = 2000  # on a sheet: more than anybody looks at
LISTED = 1000  # failures on a page; `largeds info --failures` has all


def view(
    store: STORE,
    out: Annotated[
        Path | None, typer.Argument(help="The .png or .html to write. Default: the store's name, here.")
    ] = None,
    html: Annotated[
        bool, typer.Option("--html", help="A page: images, classes, failures, report. It needs no network.")
    ] = False,
    rows: ROWS = None,
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="Only this class, by name or number; may come again.")
    ] = None,
    failures: Annotated[bool, typer.Option("--failures", help="The images that failed, with the reason.")] = False,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=TILES, help="So many images at most.")] = 32,
    variants: Annotated[int, typer.Option(min=1, max=16, help="Augmented variants beside each image, at most.")] = 4,
    flip: FLIP = 0.0,
    random_crop: RANDOM_CROP = None,
    padding: PADDING = 0,
    resized_crop: RESIZED_CROP = None,
    seed: SEED = 0,
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

    Without --rows or --class, the images are spread evenly over the store. Augmented variants are those that a Loader
    with the same Augment and seed makes in its first epochs; variants stored by `pack` are shown without asking.
    """
    from largeds_native.interchange.progress import progress_of
    from largeds_native.opening import open_store

    if sum((rows is not None, bool(classes), failures)) > 1:
        raise typer.BadParameter("--rows, --class and --failures choose images in different ways: give one of them")
    chosen, augment = row_numbers(rows), augment_from(flip, random_crop, padding, resized_crop)
    html = html or (out is not None and out.suffix.lower() in (".html", ".htm"))
    with open_store(store) as opened, progress_of(not (quiet or json), "drawing") as on_progress:
        name = opened.path.name.removesuffix(".lds")
        kinds = (".html", ".htm") if html else (".png",)
        path = check_picture_path(Path(f"{name or 'store'}{kinds[0]}") if out is None else out, kinds)
        chosen_rows = _chosen_rows(opened, chosen, classes or [], failures, count)
        sheet = _contact_sheet(opened, chosen_rows, augment, variants, seed, on_progress)
        if failures or html:
            sheet.failed, sheet.failures_summary = _failures(opened, LISTED if html else count, failures, on_progress)
        if failures and not html and not sheet.failed:
            raise ArgumentError(f"{opened.path}: no image failed, there is nothing to draw")
        data = _page(opened, sheet) if html else _sheet(opened, sheet)
    write_picture(path, data)
    if json:
        emit_json({"file": str(path), "bytes": len(data), "rows": chosen_rows, "failures": len(sheet.failed)})
    elif not quiet:
        print(f"{path}: {size(len(data))}")


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

    each = 1 + variants * (augment is not None or store.variants > 1)
    if len(rows) * each > TILES:
        raise ArgumentError(f"{len(rows):,} images with {each - 1} variants each: expected at most {TILES:,} tiles")
    shape = " x ".join(map(str, store.shape))
    facts = f"{len(store):,} images, {store.layout} {shape} {store.dtype.name}"
    summary = f"{len(rows):,} of {len(store):,}" if rows else ""
    if augment:
        summary += f"; beside each, what a Loader makes of it in its first {variants} epochs (seed {seed})"
    elif store.variants > 1:
        summary += f"; beside each, {min(variants, store.variants)} of its {store.variants} stored variants"
    if store.mean:
        summary += "; normalised floats, shown as they were before"
    tile_rows = tile_rows_of(store, rows, augment=augment, variants=variants, seed=seed, on_progress=on_progress)
    return ContactSheet(printable(store.path.name), facts, summary, tile_rows)


def _failures(store: Store, limit: int, needed: bool, on_progress: ProgressCallback) -> tuple[list[FailedTile], str]:
    """The first failures, and a sentence about all of them."""
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
    more = f"; the first {len(found):,} are listed, `largeds info --failures` has all" if total > len(found) else ""
    return found, f"{total:,} image{'s are' if total > 1 else ' is'} not in the store{more}"


def _sheet(store: Store, sheet: ContactSheet) -> bytes:
    from largeds_native.view.sheet import sheet_png

    return sheet_png(sheet, store.image_size)


def _page(store: Store, sheet: ContactSheet) -> bytes:
    from largeds_native.view.collect import report_of
    from largeds_native.view.page import page_html

    report = report_of(store)
    lines = [("packed", f"{report.packed:,} of {report.total:,} images"), *report.lines()] if report else []
    return page_html(sheet, class_counts(store), lines)
