"""Packing: writes the images of a source to a store."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from largeds_native._internal.limits import MAX_PIXELS
from largeds_native.errors import ArgumentError
from largeds_native.packing.finish_store import commit
from largeds_native.packing.options import QUALITY
from largeds_native.packing.pack_plan import Plan
from largeds_native.packing.planning import checked_plan
from largeds_native.packing.run import run
from largeds_native.packing.shard_packer import pack_shard

# imported here, not lazily, so that the name `verify_sources` is the function, not the module
from largeds_native.packing.verify_sources import SourceVerification, verify_sources
from largeds_native.transform.image_transform import CROP, RESIZE

if TYPE_CHECKING:
    from largeds_native.store import PackedStore, Store
    from largeds_native.transform import Augment

__all__ = ["Plan", "SourceVerification", "commit", "pack", "pack_shard", "plan", "verify_sources"]


def pack(
    source: Any,
    out: str | os.PathLike[str],
    *,
    classes: Sequence[str] | Store | None = None,
    shuffle: int | None = None,
    codec: Literal["raw", "jpeg"] = "raw",
    quality: int = QUALITY,
    restarts: bool = False,
    mode: Literal["RGB", "L"] = "RGB",
    dtype: Any = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    layout: Literal["CHW", "HWC"] = "CHW",
    shard_bytes: int = 1 << 30,
    resize: int | Sequence[int] | None = RESIZE,
    crop: int | Sequence[int] | None = CROP,
    interpolation: Literal["nearest", "box", "bilinear", "bicubic", "lanczos"] = "bilinear",
    antialias: bool = True,
    decode: Literal["exact", "scaled"] = "exact",
    exif_orientation: bool = True,
    variants: int = 1,
    augment: Augment | None = None,
    seed: int = 0,
    masks: Any = None,
    pictures: Mapping[str, Any] | None = None,
    ignore: int | None = None,
    on_error: Literal["skip", "raise"] = "skip",
    max_failures: int | float = 0.01,
    truncated: Literal["error", "keep"] = "error",
    max_pixels: int = MAX_PIXELS,
    sixteen_bit: Literal["scale", "clip"] | None = None,
    threads: int | None = None,
    resume: bool = True,
    key: str | None = None,
    engine: Literal["ray"] | None = None,
    progress: bool = True,
) -> PackedStore:
    """Packs `source` into a new store in the folder `out`, and opens it; `store.report` has counts, failures and speed.

    Source and store:

    source: a folder (one folder per class, by the rules of torchvision's ImageFolder, or flat), a CSV or Parquet
        table, a tar file, a list or a pattern of them (WebDataset's convention, "train-{0000..0146}.tar"), an
        (images, labels) pair of arrays, a torch Dataset of (image, label), an iterable of (bytes of an image file,
        label), any source from `largeds_native.sources`, or a store of uint8 images: JPEG rows become raw ones, and raw
        ones JPEG rows. Folders, tables and tar files may be URLs, as s3://bucket/train.
    out: the store's folder, which is new, empty, or of the same pack; or its URL.
    classes: class names in the order of their numbers, or a store whose classes to use: for a validation folder that
        lacks a class. By default the source's names; if it has none, "0", "1", ... up to the highest label.
    shuffle: a seed, to pack in a shuffled order; None keeps the order of the source.

    Rows:

    codec: "raw" stores the pixels of one shape; "jpeg" stores a JPEG file for each image, of any size, a sixth of the
        bytes or less, which the loader decodes. A JPEG row is kept in the first way that fits: the source's file as it
        is (baseline, 1 or 3 channels, no larger than `resize`, little metadata); its coefficients, written again
        without loss (progressive, arithmetic, much metadata); else encoded at `quality`, 4:2:0, shrunk before if the
        shorter side is longer than `resize`. Nothing is enlarged. The report counts each way. The Huffman data of a
        file that is kept as it is are not decoded: damage inside of them is found when the row is loaded. With "jpeg",
        crop, dtype, mean, std, variants, augment and decode keep their defaults, as the loader does their work.
    quality: of JPEG rows that are encoded, 1 to 100.
    restarts: every JPEG row gets a restart marker each row of blocks, by which a loader passes what lies above its
        crop: files that have none are written again, without loss. Rows that are encoded have them anyway.
    mode: "RGB" or "L" (grey), converted as by Pillow.
    dtype: "uint8", the default of files; or "float16" or "float32", which store x / 255, or (x / 255 - mean) / std
        with `mean` and `std`; or "uint16", which keeps grey images of 16 bits (PNG, TIFF) as they are: those of 8 bits
        then fail. Arrays of another dtype than uint8, or of other than 1 or 3 channels, keep their values: those of
        `sources.arrays` by default, those of a Dataset with 1 or 3 channels where `dtype` is their own. They are
        resized in float32 with antialiasing, and have no mode, mean, std and augment.
    mean, std: one number per channel, in [0, 1] units, for float dtypes.
    layout: of raw rows, "CHW" or "HWC".
    shard_bytes: largest size of a shard's images in bytes; a shard has at least one image. The number of JPEG rows of a
        shard follows from an estimate of their size by `resize` and `quality` alone (112 KiB without a resize), so that
        a shard may be larger or smaller.

    Size and decoding:

    resize: for raw rows, the shorter side (int), exact (height, width), or None to keep the size, as in torchvision.
        For JPEG rows, the longest shorter side (int), or None to keep every size, which is then the default.
    crop: of raw rows, a centre crop of a side or (height, width), or None. If only one of resize and crop is given, the
        other follows: resize=64 gives 64x64, crop=192 resizes to 219. An image smaller than the crop fails. All images
        must end in one shape; without a crop or an exact resize, that of the first good image, and any other shape is
        an error.
    interpolation, antialias: as in torchvision's Resize.
    decode: "exact" gives Pillow's pixels bit for bit; "scaled" decodes JPEG files at a smaller scale first, which is
        faster.
    exif_orientation: rotate images by their EXIF orientation.

    Augmentation ahead, for raw rows:

    variants, augment: stores this number of augmented variants of each image, all made from one decode. Variant v is
        what a Loader with this `augment` and `seed` makes of the image in epoch v.
    seed: of the augmentation's draws, 0 to 2**63 - 1.

    Masks and other pictures:

    masks: where the masks of the images are, one integer a pixel: for a folder, the folder of masks with the same paths
        up to the ending; for a table, the column; for arrays, an array (N, H, W); for a Dataset, the key of its dicts.
        They become the field "mask", or, from a mapping {name: where}, several fields. A palette gives its indices, and
        16 bits stay exact. Masks get the geometry of their images, by the nearest neighbour; JPEG rows keep them as PNG
        files. A sample whose mask is missing, or of another size than its image, fails.
    pictures: {name: where} of other pictures beside the images, such as depth, in the same way. They keep their dtype
        (uint8, uint16, int16, float16 or float32, up to 32 channels) and are resized as the images are. Beside JPEG
        rows, they have one channel of 8 or 16 bits, and are kept as PNG files. Files of 8 bits become grey or colours
        as the first of them is.
    ignore: the number of a mask's pixels that lie outside of the image, which a random crop with padding shows (0 by
        default): the loss's ignore_index.

    Failures:

    on_error: "skip" leaves failed images out and lists them in the report; "raise" stops at the first failure.
    max_failures: how many images may be left out, as a share of all (a float, rounded up to whole images) or a count
        (an int). If more fail, the pack ends with an error and without a store; its shards are kept, so that the same
        pack can continue with a larger value.
    truncated: of files that end early, "error" fails them; "keep" keeps the existing part of a JPEG, and a PNG that has
        all pixels but not its end.
    max_pixels: larger images fail.
    sixteen_bit: how grey images of more than 8 bits per pixel (PNG, TIFF) become 8 bits: "scale" takes the high byte
        (floats in [0, 1]: times 255), "clip" keeps 0 to 255 and makes the rest white, as Pillow's convert does. With
        None, they fail.

    Running:

    threads: by default all that the process may use. The written bytes do not depend on it.
    resume: True continues from the finished shards of an interrupted pack, and returns a store that is already
        finished; False starts again, but never removes a finished store. What the earlier run left out counts for
        max_failures and on_error.
    key: your name for the data. A Dataset or an iterable can't tell whether it gives the same samples as before: its
        pack resumes, and its finished store is recognised, only with the same key. Use another key when the data
        change. With a key, files may also have been moved or copied; without one, their sizes, times and inodes must be
        what they were.
    engine: "ray" packs each shard in a task of a Ray cluster, that of the caller's `ray.init` or else a local one. Each
        task has `threads` processors, and every machine must see the source and `out`. None packs in this process.
    progress: show a progress bar and the report, if stderr is a terminal.

    Several processes may call `pack` with the same arguments at once, as the ranks of a run do: they share the shards,
    and each returns the store. For jobs on a cluster, see `plan`.

    Raises ArgumentError for an invalid option, or an `out` among the images; PackError if the source has no image, if
    `out` is something else or belongs to another job, if too many images failed, or one has another shape;
    StorageError for a full disk; with on_error="raise", DecodeError.
    """
    arguments = dict(locals())
    chosen = {name: arguments.pop(name) for name in _OF_PACK_ALONE}
    return run(plan(**arguments), **chosen)


_OF_PACK_ALONE = ("engine", "progress")


def plan(source: Any, out: str | os.PathLike[str], **options: Any) -> Plan:
    """Plans a pack that several processes do, on one machine or many: checks everything, prepares the folder `out`,
    and returns a plan, which can be pickled and sent, or be made again by each process from the same arguments.
    `pack_shard(plan, number)` packs each of the shards 0 to `plan.shards` - 1, in any process, and `commit(plan)` makes
    the store. The bytes are those of `pack`, which is these three.

    source, out, options: as for `pack`, without progress and engine. All processes must see `source` and `out` under
    these names. resume=False is for one process alone, before the others begin.

    Raises what `pack` raises before it packs; PackError if `out` holds another plan's shards.
    """
    given = inspect.signature(pack).bind(source, out, **options)
    for name in _OF_PACK_ALONE:
        if name in options:
            raise ArgumentError(f"{name} is an argument of pack, not of plan: leave it out")
    given.apply_defaults()
    return checked_plan(**{name: value for name, value in given.arguments.items() if name not in _OF_PACK_ALONE})
