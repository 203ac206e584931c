"""From what was found to one table and two sentences: what limits, and what to change."""

from __future__ import annotations

import math
from typing import Any

from rich import box
from rich.table import Table

from largeds_native.cli.doctor.findings import Findings, Kind, Loop, Part
from largeds_native.cli.output import size

WORDS: dict[Kind, str] = {
    "disk": "the disk",
    "workers": "decoding in DataLoader",
    "loader": "the loader",
    "step": "the training step",
}
SHORT: dict[Kind, str] = WORDS | {"workers": "DataLoader"}


def limit_of(findings: Findings, kinds: tuple[Kind, ...]) -> Part | None:
    """The slowest of these parts."""
    return min((part for part in findings.parts if part.kind in kinds), key=lambda p: p.images_per_s, default=None)


def packed_limit(findings: Findings) -> Part | None:
    """What limits an epoch over the store."""
    kinds: tuple[Kind, ...] = ("loader", "step") if findings.fits else ("loader", "step", "disk")
    return limit_of(findings, kinds)


def every_epoch(findings: Findings) -> float:
    """Seconds of an epoch over the store; where it is larger than memory, none is shorter than reading it."""
    assert findings.packed is not None
    seconds = findings.packed.epoch_seconds
    return seconds if findings.fits else max(seconds, cold_seconds(findings))


def cold_seconds(findings: Findings) -> float:
    """To read every image from the disk once."""
    rates = [part.images_per_s for part in findings.parts if part.kind == "disk"]
    return findings.images / rates[-1] if rates else 0.0


def summary(findings: Findings) -> dict[str, Any]:
    """The verdict, as plain data."""
    limit = packed_limit(findings) if findings.packed_already and not findings.script else limit_today(findings)
    content: dict[str, Any] = {
        "limit": limit and limit.kind,
        "sentence": sentence(findings),
        "advice": advice(findings),
        "epoch_seconds": _epoch(findings),
        "packed_epoch_seconds": findings.packed and every_epoch(findings),
        "first_packed_epoch_seconds": findings.packed and max(every_epoch(findings), cold_seconds(findings)),
        "store_bytes": findings.store_bytes,
    }
    if findings.today is not None and findings.packed is not None:
        content["saved_seconds_an_epoch"] = findings.today.epoch_seconds - every_epoch(findings)
        content["pack_seconds"] = findings.pack_seconds
    return content


def _epoch(findings: Findings) -> float:
    return findings.today.epoch_seconds if findings.today is not None else every_epoch(findings)


def limit_today(findings: Findings) -> Part | None:
    return limit_of(findings, ("workers", "step"))


def sentence(findings: Findings) -> str:
    """What limits the epoch, what it will take, and what packing would save."""
    loop = findings.today or findings.packed
    assert loop is not None
    if findings.today is None:
        seconds, limit = every_epoch(findings), packed_limit(findings)
    else:
        seconds, limit = findings.today.epoch_seconds, limit_today(findings)
    what = f"an epoch of {findings.images:,} images takes {duration(seconds)}{_spread(loop)}"
    text = f"{what}, and {_limits(findings, limit, loop)}"
    if findings.today is not None and findings.packed is not None:
        text += f"; {_saving(findings)}"
    return text[0].upper() + text[1:] + "."


def _limits(findings: Findings, limit: Part | None, loop: Loop) -> str:
    if limit is None:
        return "nothing but the loader was measured"
    kinds: tuple[Kind, ...] = ("loader", "step") if findings.today is None else ("workers", "step")
    others = limit_of(findings, tuple(kind for kind in kinds if kind != limit.kind))
    words = f"{WORDS[limit.kind]} limits it with {limit.images_per_s:,.0f} images/s"
    if others is None:
        return words
    words += f", where {SHORT[others.kind]} alone makes {others.images_per_s:,.0f}"
    if limit.kind == "step" and findings.device == "cpu" and loop.images_per_s < 0.9 * limit.images_per_s:
        return f"{words} and takes processors from it"
    return f"{words} ({loop.waiting:.0%} of the time waits for data)"


def _saving(findings: Findings) -> str:
    assert findings.today is not None
    packed, pack = every_epoch(findings), findings.pack_seconds or 0.0
    saved = findings.today.epoch_seconds - packed
    if findings.packed_already:
        return f"with the Loader on this store it would take {duration(packed)}"
    if saved < 0.02 * findings.today.epoch_seconds:
        return f"packing ({duration(pack)}, once) would save nothing: packed, it takes {duration(packed)}"
    epochs = max(1, math.ceil(pack / saved))
    paid = "the first epoch" if epochs == 1 else f"{epochs:,} epochs"
    return f"packed it takes {duration(packed)}, and packing ({duration(pack)}, once) has paid for itself after {paid}"


def advice(findings: Findings) -> str:
    """The one option to change."""
    if findings.today is not None and findings.today.epoch_seconds > 1.1 * every_epoch(findings):
        if findings.packed_already:
            return "Let the script take its batches from lds.Loader(store, ...) instead."
        store = f"STORE.lds` ({size(findings.store_bytes)})"
        return f"Pack it: `largeds pack {findings.target} {store}, and take the batches from lds.Loader."
    limit = packed_limit(findings) if findings.today is None else limit_today(findings)
    kind = limit.kind if limit is not None else "loader"
    if kind == "step":
        if findings.device == "cpu":
            return "Change nothing in loading: a smaller model or image, --precision bf16, or a GPU make it shorter."
        return "Change nothing in loading: a larger batch, --precision bf16 or torch.compile make the step shorter."
    if findings.dtype != "uint8":
        return "Pack as uint8 (`largeds pack ... --dtype uint8`): a quarter of float32's bytes; the loader normalises."
    if kind == "disk":
        return "Let the loader read in windows: lds.Loader(..., order='block'); or pack smaller images, or add memory."
    if kind == "workers":
        return "Give DataLoader more workers where there are processors left, or pack the images."
    return "Ask the loader for half the bytes: lds.Loader(..., dtype=torch.bfloat16), or give it more threads."


def duration(seconds: float) -> str:
    """For people: 0.35 s, 42 s, 3 min 20 s, 2 h 10 min."""
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


def _spread(loop: Loop) -> str:
    return "" if math.isnan(loop.spread) else f" ±{loop.spread:.0%}"


def table(findings: Findings) -> Table:
    """Each part, and what an epoch would take if it were alone; the true loops below."""
    model = f", batches of {findings.batch_size}" + (f" for {findings.model}" if findings.model else "")
    out = Table(
        title=f"{findings.target}: {findings.images:,} images{model}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    out.add_column("")
    out.add_column("images/s", justify="right", no_wrap=True)
    out.add_column("an epoch", justify="right", no_wrap=True)
    slowest = packed_limit(findings) if findings.today is None else limit_today(findings)
    for part in findings.parts:
        mark = " <- limits" if part is slowest else ""
        out.add_row(part.name + mark, f"{part.images_per_s:,.0f}", duration(findings.images / part.images_per_s))
    for loop in filter(None, (findings.today, findings.packed)):
        out.add_row(loop.name, f"{loop.images_per_s:,.0f}", duration(loop.epoch_seconds) + _spread(loop), style="bold")
    if findings.packed is not None:
        first = max(every_epoch(findings), cold_seconds(findings))
        name = "the first, from disk" if findings.fits else "each, larger than memory"
        out.add_row(name, f"{findings.images / first:,.0f}", duration(first))
    return out
