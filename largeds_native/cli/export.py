"""`largeds export`"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from largeds_native.cli.output import emit_json, size
from largeds_native.cli.stores import place
from largeds_native.cli.values import JSON, QUIET, ROWS, numbers, row_numbers, sizes_from


class FileLayout(str, Enum):
    contiguous = "contiguous"
    chunked = "chunked"


def export(
    store: Annotated[Path, typer.Argument(parser=place, metavar="STORE", help="The store to read.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The HDF5 file to write.")],
    layout: Annotated[
        FileLayout, typer.Option(help="contiguous: one block, which can be memory-mapped.")
    ] = FileLayout.contiguous,
    chunk_images: Annotated[int, typer.Option(min=1, help="Images per chunk.")] = 1,
    compression: Annotated[
        str | None, typer.Option(help="gzip, lzf, or the name of a filter of hdf5plugin (Zstd, Blosc2, LZ4).")
    ] = None,
    resize: Annotated[
        str | None, typer.Option("--resize", help="Resize to this shorter side, or height x width; follows --crop.")
    ] = None,
    crop: Annotated[
        str | None, typer.Option("--crop", help="Centre crop to this side, or height x width; follows --resize.")
    ] = None,
    encoded: Annotated[
        bool, typer.Option("--encoded", help="Write the JPEG files of a JPEG store as they are.")
    ] = False,
    rows: ROWS = None,
    mean: Annotated[str | None, typer.Option(help="Write float32, normalised: 0.485,0.456,0.406")] = None,
    std: Annotated[str | None, typer.Option(help="With --mean: 0.229,0.224,0.225")] = None,
    quiet: QUIET = False,
    json: JSON = False,
) -> None:
    """Write a store as one HDF5 file with the datasets `data` and `labels`, and one for each further field.

    \b
    Examples:
      largeds export train.lds train.h5
      largeds export train.lds small.h5 --rows 0-999
      largeds export train.lds train.h5 --layout chunked --compression gzip
      largeds export train.lds train.h5 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
      largeds export jpeg.lds train.h5 --resize 256 --crop 224
      largeds export jpeg.lds files.h5 --encoded
    """
    from largeds_native.opening import open_store

    if (mean is None) != (std is None):
        raise typer.BadParameter("expected --mean and --std together, found only one")
    m, s = numbers(mean), numbers(std)
    with open_store(store) as opened:
        written = opened.to_hdf5(
            out,
            layout=layout.value,
            chunk_images=chunk_images,
            compression=_filter(compression),
            indices=row_numbers(rows),
            normalize=None if m is None or s is None else (m, s),
            encoded=encoded,
            progress=not (quiet or json),
            **sizes_from(resize, crop),
        )
    if json:
        emit_json({"file": str(written), "bytes": written.stat().st_size})
    elif not quiet:
        print(f"{written}: {size(written.stat().st_size)}")


def _filter(name: str | None) -> Any:
    if name is None or name in ("gzip", "lzf"):
        return name
    try:
        import hdf5plugin
    except ModuleNotFoundError:
        raise typer.BadParameter(f"the filter {name!r} needs a package; type: pip install hdf5plugin") from None
    filter_class = getattr(hdf5plugin, name, None)
    if not (isinstance(filter_class, type) and hasattr(filter_class, "filter_id")):
        raise typer.BadParameter(f"expected gzip, lzf or a filter of hdf5plugin (Zstd, Blosc2, LZ4), found {name!r}")
    return filter_class()
