"""Packing: a source of images into a store."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

# imported here, not in a function: so the name `verify_sources` means the function, not the module
from largeds_native.packing.verify_sources import SourceVerification, verify_sources
from largeds_native.transform.image_transform import CROP, MAX_PIXELS, RESIZE, Size

if TYPE_CHECKING:
    from largeds_native.store import PackedStore, Store
    from largeds_native.transform import Augment

__all__ = ["SourceVerification", "pack", "verify_sources"]


def pack(
    source: Any,
    out: str | os.PathLike[str],
    *,
    resize: Size = RESIZE,
    crop: Size = CROP,
    interpolation: Literal["nearest", "box", "bilinear", "bicubic", "lanczos"] = "bilinear",
    antialias: bool = True,
    decode: Literal["exact", "scaled"] = "exact",
    mode: Literal["RGB", "L"] = "RGB",
    exif_orientation: bool = True,
    dtype: Any = "uint8",
    layout: Literal["CHW", "HWC"] = "CHW",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    variants: int = 1,
    augment: Augment | None = None,
    seed: int = 0,
    shuffle: int | None = None,
    shard_bytes: int = 1 << 30,
    threads: int | None = None,
    classes: Sequence[str] | Store | None = None,
    on_error: Literal["skip", "raise"] = "skip",
    max_failures: int | float = 0.01,
    truncated: Literal["error", "keep"] = "error",
    max_pixels: int = MAX_PIXELS,
    sixteen_bit: Literal["scale", "clip"] | None = None,
    resume: bool = True,
    key: str | None = None,
    progress: bool = True,
) -> PackedStore:
    """Packs `source` into a new store in the folder `out`, and returns it opened; `store.report` says how it went.

    source: a folder (one folder a class, by the rules of torchvision's ImageFolder; or flat), a CSV or Parquet
        manifest, a tar file or a list of them (WebDataset's convention), an (images, labels) pair of arrays, a torch
        Dataset of (image, label), or anything that `largeds_native.sources` makes.
    resize: shorter side (int), exact (height, width), or None to keep the size; crop: centre crop of a side or (height,
        width), or None. Both as in torchvision. With only one of them given, the other follows: resize=64 gives 64x64,
        crop=192 resizes to 219. An image smaller than the crop fails. All images must end in one shape; where neither a
        crop nor an exact resize says it, that of the first good image, and another one ends the pack with an error.
    interpolation, antialias: as in torchvision's Resize; decode="scaled" lets JPEGs decode at a smaller scale first
        (faster, not bit-exact to a full decode).
    mode: "RGB" or "L" (grey), as Pillow converts; exif_orientation: turn images as their EXIF block says.
    dtype: "uint8", or "float16" / "float32": then x / 255, or (x / 255 - mean) / std where these are given.
    layout: of the stored rows, "CHW" or "HWC".
    variants, augment: with an `Augment`, so many augmented versions of each image are stored, made from one decode.
        Version v is what a Loader with this `augment` and `seed` makes of the image in epoch v.
    seed: of the augmentation's draws, 0 to 2**63 - 1.
    shuffle: a seed; packs in a shuffled order (default: the source's order).
    shard_bytes: images' bytes a shard, at most (a shard has one image at least).
    threads: default what the process may use. The bytes written do not depend on it.
    classes: class names in the order of their numbers, or a store whose classes are meant: for a validation folder that
        lacks a class. Default: the source's names; where it has none, "0", "1", ... up to the highest label.
    on_error: "skip" leaves failed images out and lists them in the report; "raise" stops at the first.
    max_failures: how many may be left out, as a share of all (a float, rounded up to whole images) or a count (an int).
        When more failed, the pack ends with an error and no store; its shards are kept for a pack with a larger one.
    truncated: "keep" keeps what a JPEG that ends early has. max_pixels: larger images fail.
    sixteen_bit: how grey images of more than 8 bits a pixel (PNG, TIFF) become 8: "scale" takes the high byte (floats
        in [0, 1]: times 255), "clip" keeps 0 to 255 and makes the rest white, as Pillow's convert does. None: they
        fail.
    resume: go on from the finished shards of a pack that was stopped, and return a store that is finished already;
        False begins again (it does not throw away a finished store).
    key: a name of yours for the data. A Dataset or an iterable can't tell whether it gives the same samples as before:
        its pack is resumed, and its store taken for finished, only under the key that it was begun with. Give another
        key when the data change. With a key, files may also have moved.
    progress: a progress bar and the report's table, when the output is a terminal.

    Raises ArgumentError for a bad option; PackError when the source has no image or `out` is something else, or
    belongs to another job, when too many images failed, or one ends in another shape; StorageError for a full disk;
    with on_error="raise", DecodeError.
    """
    from largeds_native.packing.options import Options
    from largeds_native.packing.run import run
    from largeds_native.sources import as_source
    from largeds_native.sources.classes import with_classes

    options = Options.checked(
        resize=resize,
        crop=crop,
        interpolation=interpolation,
        antialias=antialias,
        decode=decode,
        mode=mode,
        exif_orientation=exif_orientation,
        dtype=dtype,
        layout=layout,
        mean=mean,
        std=std,
        variants=variants,
        augment=augment,
        seed=seed,
        shuffle=shuffle,
        shard_bytes=shard_bytes,
        truncated=truncated,
        max_pixels=max_pixels,
        sixteen_bit=sixteen_bit,
    )
    chosen = with_classes(as_source(source), classes)
    return run(chosen, out, options, threads, on_error, resume, progress, key, max_failures)
