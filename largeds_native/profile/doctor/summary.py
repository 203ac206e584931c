"""Turns the results into a table and two sentences: what limits the epoch, and what to change."""

from __future__ import annotations

import math
from typing import Any

from rich import box
from rich.table import Table

from largeds_native._internal.units import size
from largeds_native.profile.doctor.results import LoopResult, Part, PartKind, ProfileResults, RowsRate

LIMIT_NAMES: dict[PartKind, str] = {
    "disk": "the disk",
    "workers": "decoding in DataLoader",
    "loader": "the loader",
    "step": "the training step",
}
SHORT_NAMES: dict[PartKind, str] = LIMIT_NAMES | {"workers": "DataLoader"}


def slowest_part(results: ProfileResults, kinds: tuple[PartKind, ...]) -> Part | None:
    """The slowest of these parts."""
    return min((part for part in results.parts if part.kind in kinds), key=lambda p: p.images_per_s, default=None)


def packed_limit(results: ProfileResults) -> Part | None:
    """What limits an epoch over the store."""
    kinds: tuple[PartKind, ...] = ("loader", "step") if results.fits else ("loader", "step", "disk")
    return slowest_part(results, kinds)


def packed_epoch_seconds(results: ProfileResults) -> float:
    """Seconds of an epoch over the store, which reads it from the disk if it is larger than memory."""
    assert results.packed is not None
    seconds = results.packed.epoch_seconds
    return seconds if results.fits else max(seconds, first_read_seconds(results))


def first_read_seconds(results: ProfileResults) -> float:
    """Seconds to read every image from the disk once."""
    rates = [part.images_per_s for part in results.parts if part.kind == "disk"]
    return results.images / rates[-1] if rates else 0.0


def summary(results: ProfileResults) -> dict[str, Any]:
    """The conclusions as plain data."""
    limit = packed_limit(results) if results.is_store and not results.script else baseline_limit(results)
    packed = None if results.packed is None else packed_epoch_seconds(results)
    content: dict[str, Any] = {
        "limit": limit and limit.kind,
        "sentence": sentence(results),
        "advice": advice(results),
        "epoch_seconds": _current_epoch_seconds(results),
        "packed_epoch_seconds": packed,
        "first_packed_epoch_seconds": packed and max(packed, first_read_seconds(results)),
        "store_bytes": results.store_bytes,
    }
    if (best := recommended_rows(results)) is not None:
        content |= {"recommended_rows": best.codec, "rows_sentence": rows_sentence(results)}
    if results.baseline is not None and packed is not None:
        content["saved_seconds_an_epoch"] = results.baseline.epoch_seconds - packed
        content["pack_seconds"] = results.pack_seconds
    return content


def _current_epoch_seconds(results: ProfileResults) -> float:
    return results.baseline.epoch_seconds if results.baseline is not None else packed_epoch_seconds(results)


def baseline_limit(results: ProfileResults) -> Part | None:
    return slowest_part(results, ("workers", "step"))


def sentence(results: ProfileResults) -> str:
    """What limits the epoch, how long it takes, and what packing would save."""
    loop = results.baseline or results.packed
    assert loop is not None
    if results.baseline is None:
        seconds, limit = packed_epoch_seconds(results), packed_limit(results)
    else:
        seconds, limit = results.baseline.epoch_seconds, baseline_limit(results)
    what = f"an epoch of {results.images:,} images takes {duration(seconds)}{_spread(loop)}"
    text = f"{what}, and {_limits(results, limit, loop)}"
    if results.baseline is not None and results.packed is not None:
        text += f"; {_saving(results)}"
    return text[0].upper() + text[1:] + "."


def _limits(results: ProfileResults, limit: Part | None, loop: LoopResult) -> str:
    if limit is None:
        return "only the loader was measured"
    kinds: tuple[PartKind, ...] = ("loader", "step") if results.baseline is None else ("workers", "step")
    others = slowest_part(results, tuple(kind for kind in kinds if kind != limit.kind))
    text = f"{LIMIT_NAMES[limit.kind]} limits it with {limit.images_per_s:,.0f} images/s"
    if others is None:
        return text
    text += f", where {SHORT_NAMES[others.kind]} alone reaches {others.images_per_s:,.0f}"
    if limit.kind == "step" and results.device == "cpu" and loop.images_per_s < 0.9 * limit.images_per_s:
        return f"{text} and competes with it for processors"
    return f"{text} ({loop.waiting:.0%} of the time waits for data)"


def _saving(results: ProfileResults) -> str:
    assert results.baseline is not None
    packed, pack = packed_epoch_seconds(results), results.pack_seconds or 0.0
    saved = results.baseline.epoch_seconds - packed
    if results.is_store:
        return f"with the Loader on this store it would take {duration(packed)}"
    if not _saves(results):
        told = duration(packed) + (_spread(results.packed) if results.packed is not None else "")
        return f"packing ({duration(pack)}, once) would save nothing beyond the spread: packed, it takes {told}"
    epochs = max(1, math.ceil(pack / saved))
    paid = "the first epoch" if epochs == 1 else f"{epochs:,} epochs"
    return f"packed it takes {duration(packed)}, and packing ({duration(pack)}, once) has paid for itself after {paid}"


def _saves(results: ProfileResults, at_least: float = 0.05) -> bool:
    """Whether an epoch over the store is shorter than today's, by this part of it and by more than both spreads."""
    if results.baseline is None or results.packed is None:
        return False
    today, packed = results.baseline.epoch_seconds, packed_epoch_seconds(results)
    spreads = [0.0 if math.isnan(loop.spread) else loop.spread for loop in (results.baseline, results.packed)]
    return today - packed > max(at_least * today, today * spreads[0] + packed * spreads[1])


def advice(results: ProfileResults) -> str:
    """Which option to change."""
    if _saves(results, 0.1):
        if results.is_store:
            return "Let the script take its batches from lds.Loader(store, ...) instead."
        return _advice_to_pack(results)
    limit = packed_limit(results) if results.baseline is None else baseline_limit(results)
    kind = limit.kind if limit is not None else "loader"
    if kind == "step":
        if results.device == "cpu":
            return "Change nothing in loading: a smaller model or image, --precision bf16, or a GPU make it shorter."
        return "Change nothing in loading: a larger batch, --precision bf16 or torch.compile make the step shorter."
    if results.dtype != "uint8":
        return "Pack as uint8 (`largeds pack ... --dtype uint8`): a quarter of float32's bytes; the loader normalises."
    if kind == "disk" and results.is_store and results.remote_files:
        where = results.remote_files
        return f"Copy the store to a local disk: it is larger than memory, and each epoch reads it by {where}."
    if results.codec == "jpeg" and kind in ("disk", "loader"):
        more = "give the loader more threads" if kind == "loader" else "let it read in windows (order='block')"
        return f"Pack smaller images (`largeds pack ... --codec jpeg --resize 256`), or {more}."
    if kind == "disk":
        return "Let the loader read in windows: lds.Loader(..., order='block'); or pack JPEG rows, or add memory."
    if kind == "workers":
        return "Give DataLoader more workers where there are processors left, or pack the images."
    return "Ask the loader for half the bytes: lds.Loader(..., dtype=torch.bfloat16), or give it more threads."


def _advice_to_pack(results: ProfileResults) -> str:
    best = recommended_rows(results)
    store = f"STORE.lds` ({size(results.store_bytes)})"
    if best is not None and best.codec == "jpeg":
        store = f"STORE.lds --codec jpeg` ({size(results.images * best.image_bytes)})"
    text = f"Pack it: `largeds pack {results.target} {store}, and take the batches from lds.Loader."
    if best is None or best.has_room:
        return text
    return (
        f"{text} The disk of this folder has {size(results.free_bytes)} free: pack to another one, or to a bucket "
        "(s3://...), of which lds.open(url, cache=, cache_bytes=) keeps a part here."
    )


ROWS_NAMES = {"raw": "raw rows", "jpeg": "JPEG rows"}


def rows_epoch_seconds(results: ProfileResults, rows: RowsRate) -> float:
    """Seconds of an epoch over rows of this kind, from the speeds of its parts."""
    rate = rows.loader if rows.fits else min(rows.loader, rows.disk)
    step = slowest_part(results, ("step",))
    if step is None:
        return results.images / rate
    # on the CPU, the step and the loader share the processors, so their times add up
    together = results.images / rate + results.images / step.images_per_s
    return together if results.device == "cpu" else results.images / min(rate, step.images_per_s)


def recommended_rows(results: ProfileResults) -> RowsRate | None:
    """The kind of rows with the shorter epoch; the smaller one where they differ by less than a tenth, or the disk has
    no room for the larger. None unless both were measured."""
    if len(results.rows) < 2:
        return None
    small, large = sorted(results.rows, key=lambda rows: rows.image_bytes)
    seconds, other = (rows_epoch_seconds(results, rows) for rows in (small, large))
    return small if seconds < 1.1 * other or not large.has_room else large


def rows_sentence(results: ProfileResults) -> str:
    """Which kind of rows suits this machine, and the figures of both; "" unless both were measured."""
    best = recommended_rows(results)
    if best is None:
        return ""
    kinds = [
        f"{ROWS_NAMES[rows.codec]} ({size(rows.image_bytes)} an image"
        f"{_too_large(results, rows)}) takes {duration(rows_epoch_seconds(results, rows))}"
        for rows in sorted(results.rows, key=lambda rows: rows is not best)
    ]
    return f"Take {ROWS_NAMES[best.codec]}: an epoch over {kinds[0]}, over {kinds[1]}."


def _too_large(results: ProfileResults, rows: RowsRate) -> str:
    memory = "" if rows.fits else ", more than memory holds"
    return memory + ("" if rows.has_room else f", more than the {size(results.free_bytes)} that are free here")


def duration(seconds: float) -> str:
    """A human-readable duration: 0.35 s, 42 s, 3 min 20 s, 2 h 10 min."""
    if seconds < 0.001:
        return "under 1 ms"
    if seconds < 9.95:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def _spread(loop: LoopResult) -> str:
    return "" if math.isnan(loop.spread) else f" ±{loop.spread:.0%}"


def table(results: ProfileResults) -> Table:
    """Each part with the time of an epoch if it were the only part, and below them the real loops."""
    model = f", batches of {results.batch_size}" + (f" for {results.model}" if results.model else "")
    out = Table(
        title=f"{results.target}: {results.images:,} images{model}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    out.add_column("")
    out.add_column("images/s", justify="right", no_wrap=True)
    out.add_column("an epoch", justify="right", no_wrap=True)
    slowest = packed_limit(results) if results.baseline is None else baseline_limit(results)
    for part in results.parts:
        mark = " <- limits" if part is slowest else ""
        out.add_row(part.name + mark, f"{part.images_per_s:,.0f}", duration(results.images / part.images_per_s))
    for loop in filter(None, (results.baseline, results.packed)):
        out.add_row(loop.name, f"{loop.images_per_s:,.0f}", duration(loop.epoch_seconds) + _spread(loop), style="bold")
    for rows in results.rows if len(results.rows) > 1 else ():
        name = f"Loader alone, {ROWS_NAMES[rows.codec]} of {size(rows.image_bytes)}"
        out.add_row(name, f"{rows.loader:,.0f}", duration(results.images / rows.loader))
    if results.packed is not None:
        first = max(packed_epoch_seconds(results), first_read_seconds(results))
        name = "the first epoch, from disk" if results.fits else "each epoch, larger than memory"
        out.add_row(name, f"{results.images / first:,.0f}", duration(first))
    return out
