"""`largeds pack`"""

from __future__ import annotations

import os
from enum import Enum
from typing import Annotated, Any

import typer

from largeds_native._internal.limits import MAX_PIXELS
from largeds_native._internal.terminal import on_terminal
from largeds_native._internal.urls import is_url, local_path, without_credentials
from largeds_native.cli import completion
from largeds_native.cli.pack_parts import pack_part, part_from, show_store
from largeds_native.cli.values import (
    CROP,
    FLIP,
    JSON,
    PADDING,
    QUIET,
    RANDOM_CROP,
    RESIZE,
    RESIZED_CROP,
    SEED,
    SHARD_BYTES,
    THREADS,
    VERTICAL_FLIP,
    Layout,
    augment_from,
    byte_count,
    numbers,
    sizes_from,
)


class Interpolation(str, Enum):
    nearest = "nearest"
    box = "box"
    bilinear = "bilinear"
    bicubic = "bicubic"
    lanczos = "lanczos"


class Dtype(str, Enum):
    uint8 = "uint8"
    uint16 = "uint16"
    float16 = "float16"
    float32 = "float32"


class Mode(str, Enum):
    RGB = "RGB"
    L = "L"


class Decode(str, Enum):
    exact = "exact"
    scaled = "scaled"


class Truncated(str, Enum):
    error = "error"
    keep = "keep"


class Codec(str, Enum):
    raw = "raw"
    jpeg = "jpeg"


class SixteenBit(str, Enum):
    scale = "scale"
    clip = "clip"


class Engine(str, Enum):
    ray = "ray"


class OnError(str, Enum):
    skip = "skip"
    stop = "raise"


def pack(
    source: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE",
            show_default=False,
            help="A folder of images (flat, or one folder per class), a .csv or .parquet table, or .tar files; or "
            "URLs of them, as s3://bucket/train. Patterns as 'train-*.tar' and 'train-{0000..0146}.tar' may be quoted.",
        ),
    ] = None,
    *,
    out: Annotated[str, typer.Argument(metavar="OUT", help="The store to write, usually named *.lds; or its URL.")],
    path: Annotated[
        str | None,
        typer.Option(help="Of a table: the column of paths, or of images.", autocompletion=completion.COLUMNS),
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Of a table: the column of labels.", autocompletion=completion.COLUMNS)
    ] = None,
    masks: Annotated[
        list[str] | None,
        typer.Option(
            help="Masks of the images: a folder with the same paths, or a table's column. NAME=WHERE for several.",
            autocompletion=completion.COLUMNS,
        ),
    ] = None,
    pictures: Annotated[
        list[str] | None, typer.Option(metavar="NAME=WHERE", help="Other pictures beside the images, as depth=FOLDER.")
    ] = None,
    ignore: Annotated[int | None, typer.Option(help="The number of a mask's pixels outside of the image.")] = None,
    from_store: Annotated[
        bool, typer.Option("--from-store", help="SOURCE is a store: make raw rows of its JPEG rows, or the other way.")
    ] = False,
    codec: Annotated[
        Codec,
        typer.Option(
            help="raw: pixels of one shape. jpeg: JPEG files of any size, which the loader decodes and crops."
        ),
    ] = Codec.raw,
    resize: RESIZE = None,
    crop: CROP = None,
    quality: Annotated[
        int | None, typer.Option(min=1, max=100, help="Of JPEG rows that are encoded; default 95.")
    ] = None,
    restarts: Annotated[
        bool, typer.Option("--restarts", help="Write every JPEG row with restart markers, without loss.")
    ] = False,
    interpolation: Annotated[Interpolation, typer.Option(help="As in torchvision's Resize.")] = Interpolation.bilinear,
    antialias: Annotated[bool, typer.Option(help="As in torchvision's Resize.")] = True,
    decode: Annotated[
        Decode, typer.Option(help="scaled: decode JPEGs at a smaller scale first, which is faster.")
    ] = Decode.exact,
    mode: Annotated[Mode, typer.Option(help="Colour, or grey.")] = Mode.RGB,
    exif_orientation: Annotated[bool, typer.Option(help="Rotate images by their EXIF orientation.")] = True,
    dtype: Annotated[
        Dtype | None,
        typer.Option(
            help="float16 and float32 store x / 255, normalised by --mean and --std; uint16 keeps grey of 16 bits."
        ),
    ] = None,
    layout: Annotated[Layout, typer.Option(help="Layout of the stored images.")] = Layout.CHW,
    mean: Annotated[str | None, typer.Option(help="For float stores, in [0, 1] units: 0.485,0.456,0.406")] = None,
    std: Annotated[str | None, typer.Option(help="For float stores: 0.229,0.224,0.225")] = None,
    variants: Annotated[int, typer.Option(min=1, help="Number of augmented variants per image, from one decode.")] = 1,
    random_crop: RANDOM_CROP = None,
    padding: PADDING = 0,
    resized_crop: RESIZED_CROP = None,
    scale: Annotated[str | None, typer.Option(help="For --resized-crop: relative area; default 0.08,1.")] = None,
    ratio: Annotated[
        str | None, typer.Option(help="For --resized-crop: width / height; default from 3/4 to 4/3.")
    ] = None,
    flip: FLIP = 0.0,
    vertical_flip: VERTICAL_FLIP = 0.0,
    seed: SEED = 0,
    shuffle: Annotated[
        int | None,
        typer.Option(min=0, metavar="SEED", help="Pack in a shuffled order; default: the order of the source."),
    ] = None,
    shard_bytes: SHARD_BYTES = "1G",
    classes: Annotated[
        str | None, typer.Option(help="Class names in the order of their numbers (cat,dog), or a store that has them.")
    ] = None,
    on_error: Annotated[
        OnError, typer.Option(help="skip: leave failed images out, and list them in the report.")
    ] = OnError.skip,
    max_failures: Annotated[
        str, typer.Option(help="How many may fail: a share (0.01, rounded up) or a count (5); more make no store.")
    ] = "0.01",
    truncated: Annotated[
        Truncated,
        typer.Option(help="keep: decode a JPEG that ends early as far as it goes, a PNG without its end."),
    ] = Truncated.error,
    max_pixels: Annotated[int, typer.Option(min=1, help="Larger images fail.")] = MAX_PIXELS,
    sixteen_bit: Annotated[
        SixteenBit | None,
        typer.Option(
            help="Grey of 16 bits to 8: scale takes the high byte, clip keeps 0 to 255. Default: they fail, unless "
            "--dtype uint16 keeps them."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Continue from the finished shards of an interrupted pack.")] = True,
    key: Annotated[
        str | None, typer.Option(metavar="NAME", help="Names the data: a store of this key is known again elsewhere.")
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Pack only part I of N, from 1, as a job of many; --finish makes the store."),
    ] = None,
    finish: Annotated[
        bool, typer.Option("--finish", help="Make the store of the shards that the parts have packed.")
    ] = False,
    engine: Annotated[
        Engine | None, typer.Option(help="ray: pack each shard in a task of a Ray cluster, of --threads processors.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Of the Ray cluster; default: one on this machine, or RAY_ADDRESS.")
    ] = None,
    threads: THREADS = None,
    quiet: QUIET = False,
    json: JSON = False,
) -> None:
    """Decode, resize and crop images once, into a memory-mapped store; or keep them as JPEG files of bounded size.

    \b
    Examples:
      largeds pack photos/train train.lds
      largeds pack photos/train train.lds --resize 160 --crop 128 --threads 8
      largeds pack train.csv train.lds --path file --label species
      largeds pack shards/train-*.tar train.lds
      largeds pack 's3://bucket/train-{0000..0146}.tar' train.lds
      largeds pack scans scans.lds --resize 512x384 --crop none --mode L
      largeds pack ct ct.lds --dtype uint16 --resize none --crop none
      largeds pack photos/train train.lds --resize none --crop none --resized-crop 176 --flip 0.5 --variants 4
      largeds pack photos/train train.lds --shuffle 0 --json > report.json
      largeds pack photos/train train.lds --codec jpeg --resize 256 --quality 90
      largeds pack photos/train train.lds --codec jpeg --masks photos/masks --ignore 255
      largeds pack --from-store jpeg.lds raw.lds --resize 256 --crop 224
      largeds pack photos/train train.lds --part $SLURM_ARRAY_TASK_ID/16
      largeds pack photos/train train.lds --finish

    Ctrl-C stops within a second; the same command then continues. Failed images are skipped; `largeds info STORE
    --failures` lists them with the reason. If more than --max-failures fail, the exit code is 1 and no store is made.
    """
    from largeds_native.errors import PackError
    from largeds_native.packing import commit, plan
    from largeds_native.packing.run import run
    from largeds_native.sources import table
    from largeds_native.sources.patterns import expand
    from largeds_native.sources.resolve import is_table

    if not source:  # the last argument is OUT
        raise typer.BadParameter(f"expected images and the store to write, as: largeds pack {out} train.lds")
    area = {"scale": numbers(scale), "ratio": numbers(ratio)}
    augment = augment_from(flip, vertical_flip, random_crop, padding, resized_crop, **area)
    if (part is not None) + finish + (engine is not None) > 1:
        raise typer.BadParameter("expected one of --part, --finish and --engine, found several")
    if address is not None and engine is None:
        raise typer.BadParameter("--address is that of a Ray cluster: pass --engine ray too")
    chosen: Any = source[0] if len(source) == 1 else [found for given in source for found in expand(given)]
    if path is not None or label is not None:
        if len(source) != 1 or not is_table(source[0]):
            raise PackError(
                "--path and --label name columns of a table: expected one .csv or .parquet file, found "
                + without_credentials(" and ".join(source[:2]))
            )
        further: dict[str, Any] = {"masks": _masks(masks), "pictures": _named("--pictures", pictures)}
        chosen = table(source[0], path=path, label=label, **further, ignore=ignore)
        masks = pictures = ignore = None
    if from_store:
        chosen = _one_store(source)
    arguments: dict[str, Any] = sizes_from(resize, crop) | {
        "codec": codec.value,
        **({} if quality is None else {"quality": quality}),
        "restarts": restarts,
        "interpolation": interpolation.value,
        "antialias": antialias,
        "decode": decode.value,
        "mode": mode.value,
        "exif_orientation": exif_orientation,
        "dtype": dtype and dtype.value,
        "layout": layout.value,
        "mean": numbers(mean),
        "std": numbers(std),
        "variants": variants,
        "augment": augment,
        "seed": seed,
        "shuffle": shuffle,
        "shard_bytes": byte_count(shard_bytes),
        "truncated": truncated.value,
        "max_pixels": max_pixels,
        "sixteen_bit": sixteen_bit and sixteen_bit.value,
        "on_error": on_error.value,
        "key": key,
        "classes": _classes(classes),
        "masks": _masks(masks),
        "pictures": _named("--pictures", pictures),
        "ignore": ignore,
        "max_failures": _max_failures(max_failures),
    }
    shown = on_terminal() and not (quiet or json)
    arguments |= {"threads": threads, "resume": resume}
    if part is not None:
        pack_part(chosen, out, arguments, part_from(part), shown, json=json, quiet=quiet)
        return
    if finish and not is_url(out) and not os.path.isdir(local_path(out)):
        raise PackError(f"{out} does not exist: expected the folder into which the parts were packed")
    planned = plan(chosen, out, **arguments)
    store = commit(planned) if finish else run(planned, shown, engine and engine.value, address)
    show_store(store, out, shown, json=json, quiet=quiet)


def _one_store(source: list[str]) -> Any:
    from largeds_native.errors import PackError
    from largeds_native.opening import open_store

    if len(source) != 1:
        raise PackError(f"--from-store: expected one store, found {len(source)} sources")
    return open_store(source[0])


def _masks(given: list[str] | None) -> str | dict[str, str] | None:
    """'folder', or one or several 'name=folder'."""
    if not given:
        return None
    if len(given) == 1 and "=" not in given[0]:
        return given[0]
    return _named("--masks", given)


def _named(option: str, given: list[str] | None) -> dict[str, str] | None:
    named: dict[str, str] = {}
    for text in given or ():
        name, equals, where = text.partition("=")
        if not equals or name in named:
            raise typer.BadParameter(f"{option}: expected NAME=WHERE, each name once, found {text!r}")
        named[name] = where
    return named or None


def _classes(text: str | None) -> list[str] | None:
    """'cat,dog', or the path of a store."""
    if text is None:
        return None
    if os.path.isdir(text):
        from largeds_native.opening import open_store

        with open_store(text) as store:
            return list(store.classes)
    return text.split(",")


def _max_failures(text: str) -> int | float:
    """'0.01' is a share, '5' a count."""
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        raise typer.BadParameter(f"--max-failures: expected a share (0.01) or a count (5), found {text!r}") from None
