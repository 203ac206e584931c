"""`largeds import`"""

from __future__ import annotations

import tempfile
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from largeds_native.cli import completion
from largeds_native.cli.info import describe
from largeds_native.cli.output import console, emit_json
from largeds_native.cli.stores import local
from largeds_native.cli.values import JSON, QUIET, SHARD_BYTES, Layout, byte_count


class FloatDtype(str, Enum):
    float16 = "float16"
    float32 = "float32"


def import_hdf5(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            parser=local,
            metavar="FILE",
            show_default=False,
            help="An HDF5 file; or several exported ones, which are concatenated.",
        ),
    ] = None,
    *,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The store to write, usually named *.lds.")],
    images: Annotated[
        str,
        typer.Option(
            help="Name of the dataset of images, (N, C, H, W) or (N, H, W, C).", autocompletion=completion.DATASETS
        ),
    ] = "data",
    labels: Annotated[
        str,
        typer.Option(
            help="Name of the dataset of labels, FILE:NAME for one of another file, or none.",
            autocompletion=completion.DATASETS,
        ),
    ] = "labels",
    dtype: Annotated[FloatDtype | None, typer.Option(help="Convert float images to this dtype.")] = None,
    layout: Annotated[Layout | None, typer.Option(help="Layout of the images, if their shape fits both.")] = None,
    shard_bytes: SHARD_BYTES = "1G",
    quiet: QUIET = False,
    json: JSON = False,
) -> None:
    """Make a store of any HDF5 file: pixels are not changed, other datasets with as many rows become fields.

    \b
    Examples:
      largeds import train.h5 train.lds
      largeds import other.h5 train.lds --images /train/x --labels /train/y --dtype float32
      largeds import train_x.h5 train.lds --images x --labels train_y.h5:y
      largeds import part-0.h5 part-1.h5 train.lds
      largeds import train.h5 train.lds --json

    A file with contiguous images needs no import: `largeds info FILE.h5` and `lds.open("FILE.h5")` map it.
    """
    from largeds_native.interchange import from_hdf5, join_hdf5

    if not files:  # the last argument is OUT
        raise typer.BadParameter(f"expected a file and the store to write, as: largeds import {out} train.lds")
    with tempfile.TemporaryDirectory(prefix="largeds-") as temporary:
        label = None if labels.lower() == "none" else labels
        joined = Path(temporary) / "joined.h5"
        file = files[0] if len(files) == 1 else join_hdf5(files, joined, images, label)
        store = from_hdf5(
            file,
            out,
            images,
            label,
            dtype=dtype and dtype.value,
            layout=layout and layout.value,
            shard_bytes=byte_count(shard_bytes),
            progress=not (quiet or json),
        )
    with store:
        if json:
            emit_json(describe(store))
        elif not quiet:
            console().print(repr(store), markup=False, soft_wrap=True)
