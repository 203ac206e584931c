"""`largeds info`"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Annotated, Any

import typer

from largeds_native.cli.output import emit_json, print_pairs, size
from largeds_native.cli.stores import CACHE, STORES, open_stores
from largeds_native.cli.values import JSON

if TYPE_CHECKING:
    from largeds_native._internal.arrays import FieldSpec
    from largeds_native.store import Store
    from largeds_native.store.metadata import Metadata


def info(
    stores: STORES,
    classes: Annotated[bool, typer.Option("--classes", help="List the classes with their number of images.")] = False,
    failures: Annotated[bool, typer.Option("--failures", help="List the images that failed, with the reason.")] = False,
    cache: CACHE = None,
    json: JSON = False,
) -> None:
    """Print the contents of a store, without reading its images.

    \b
    Examples:
      largeds info train.lds
      largeds info train.lds --classes
      largeds info train.lds --failures | head
      largeds info train.lds --json
      largeds info photos.lds drawings.lds --classes
      largeds info s3://bucket/train.lds
    """
    with open_stores(stores, cache) as opened:
        content = describe(opened)
        if classes or (json and (cache is not None or not opened.arriving)):  # labels are in the shards
            content["images per class"] = class_counts(opened)
        if failures or json:
            unknown = json and not failures and content["failed"] is None  # of a store that was not packed
            content["failures"] = None if unknown else list(failed_samples(opened))
    if json:
        emit_json(content)
    elif classes:
        print_pairs(content["images per class"] or {"": "the store has no class names"})
    elif failures:
        for failure in content["failures"]:
            print(
                ": ".join([*failure.get("store", "").split(), failure["source"], failure["status"], failure["error"]])
            )
        if not content["failures"]:
            print("no image failed")
    else:
        print_pairs(_human_readable(content, opened.metadata))


def describe(store: Store) -> dict[str, Any]:
    """The metadata of the store as plain data."""
    from largeds_native.store import parts_of

    statistics = store.metadata.statistics  # not computed here: that may read the whole file
    sizes = store.metadata.sizes
    return {
        "path": store.location,
        "images": len(store),
        "codec": store.metadata.codec,
        "shape": None if store.metadata.varies else list(store.shape),
        "sizes": sizes and {"min": list(sizes.min), "max": list(sizes.max)},
        "layout": store.layout,
        "dtype": store.dtype.name,
        "bytes": store.nbytes,
        "variants": store.variants,
        "fields": {name: _field(spec) for name, spec in store.metadata.fields.items()},
        "classes": len(store.classes),
        "shards": sum(_shards(part) for part in parts_of(store)),
        "failed": failed_count(store),
        "mean": store.mean and list(store.mean),
        "std": store.std and list(store.std),
        "statistics": statistics and {"mean": list(statistics[0]), "std": list(statistics[1])},
        "identity": store.identity,
    }


def _shards(store: Store) -> int:
    from largeds_native.store import PackedStore

    return len(store.shards if isinstance(store, PackedStore) else store.files("images"))


def _field(spec: FieldSpec) -> dict[str, Any]:
    plain: dict[str, Any] = {"dtype": str(spec.dtype), "shape": list(spec.shape)}
    ignore = {"ignore": spec.ignore} if spec.is_mask else {}
    return {**plain, "role": spec.role, **ignore} if spec.is_picture else plain


def _human_readable(content: dict[str, Any], metadata: Metadata) -> dict[str, object]:
    fields = ", ".join(f"{name} ({spec})" for name, spec in metadata.fields.items())
    lines: dict[str, object] = {
        "store": content["path"],
        "images": f"{content['images']:,}",
        "each": each_image(metadata),
        "size": f"{size(content['bytes'])} in {content['shards']:,} shard{'s' * (content['shards'] != 1)}",
        "fields": fields or "none",
        "failed": _failed(content["failed"]),
        "classes": f"{content['classes']:,}" if content["classes"] else "none named",
    }
    if content["variants"] > 1:
        lines["variants"] = f"{content['variants']} of each image"
    if content["mean"]:
        lines["normalised"] = (
            f"mean {_short(content['mean'])}, std {_short(content['std'])}, applied to the stored images"
        )
    elif content["statistics"]:
        statistics = content["statistics"]
        lines["statistics"] = f"mean {_short(statistics['mean'])}, std {_short(statistics['std'])}, in [0, 1] units"
    lines["identity"] = content["identity"]
    return lines


def each_image(metadata: Metadata) -> str:
    """What one image is: "CHW 3 x 224 x 224, uint8", or "JPEG 48x48 to 90x80 (height x width), RGB"."""
    if metadata.codec == "jpeg":
        return ", ".join(metadata.pixel_facts())
    return f"{metadata.layout} {' x '.join(map(str, metadata.shape))}, {metadata.dtype.name}"


def _failed(count: int | None) -> str:
    if count is None:
        return "not known"
    return f"{count:,} images were left out: see --failures" if count else "none"


def _short(values: list[float]) -> str:
    return ",".join(f"{value:.4f}" for value in values)


def failed_count(store: Store) -> int | None:
    """Samples that are not in the store, from the sizes of its lists of samples; None where a part of it has none."""
    import pyarrow.parquet as pq

    from largeds_native.store import PackedStore, parts_of
    from largeds_native.store.format import sample_log

    samples = 0
    for part in parts_of(store):
        if not isinstance(part, PackedStore):
            return None
        try:
            samples += sum(pq.read_metadata(shard.path / sample_log.NAME).num_rows for shard in part.shards)
        except (OSError, ValueError):  # ArrowInvalid is a ValueError
            return None
    return samples - len(store)


def class_counts(store: Store) -> dict[str, int]:
    """Number of images per class, in the order of the labels; empty if labels are not class numbers."""
    import numpy as np

    if not store.classes or "label" not in store.fields:
        return {}
    counts = np.zeros(len(store.classes), np.int64)
    labels = store["label"]
    for low in range(0, len(store), 1 << 20):
        part = np.asarray(labels[low : low + (1 << 20)])
        counts += np.bincount(part[(part >= 0) & (part < len(counts))], minlength=len(counts))
    return dict(zip(store.classes, counts.tolist(), strict=True))


def failed_samples(store: Store) -> itertools.chain[dict[str, str]]:
    """Source, status and error of every failed sample, of joined stores also the `store`; reads one shard at a time."""
    import pyarrow.compute as pc

    from largeds_native.store import ConcatStore, as_packed

    packed = store if isinstance(store, ConcatStore) else as_packed(store)
    columns = ["source", "status", "error", *(["store"] if isinstance(store, ConcatStore) else [])]

    def of_shard(i: int) -> list[dict[str, str]]:
        table = packed.samples_of([i])
        found: list[dict[str, str]] = table.filter(pc.less(table["row"], 0)).select(columns).to_pylist()
        return found

    return itertools.chain.from_iterable(map(of_shard, range(len(packed.shards))))
