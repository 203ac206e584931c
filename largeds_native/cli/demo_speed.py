"""The demo's speed table: images/s of packing and loading, by largeds_native and other libraries."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack

from rich.table import Table

from largeds_native._internal.measure import Contender, Measured, take_turns
from largeds_native.profile.bench import load_stage, pack_stage
from largeds_native.profile.bench.candidates import OURS, Candidate, Progress
from largeds_native.profile.bench.image_set import ImageSet

SHOWN = (OURS, "torchvision + DataLoader", "HDF5 + DataLoader")  # a selection of the candidates of `largeds bench`


def measure_speed(images: ImageSet, progress: Progress) -> tuple[list[Measured], list[Measured]]:
    """Rates of (packing JPEG files to 224x224, loading random batches of normalised float32), in the order of SHOWN."""
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, images.out, ignore_errors=True)
        stack.callback(progress, "")
        packs = _measure("packing", pack_stage.candidates(images), 2, progress)
        return packs, _measure("loading", load_stage.candidates(images, stack), 3, progress)


def _measure(what: str, candidates: Sequence[Candidate], rounds: int, progress: Progress) -> list[Measured]:
    by_name = {candidate.name: candidate for candidate in candidates}
    contenders = [Contender(name, by_name[name].make(), by_name[name].role, by_name[name].before) for name in SHOWN]
    return take_turns(contenders, rounds=rounds, warmup=1, progress=lambda text: progress(f"{what}: {text}"))


def joined_table(packing: Sequence[Measured], loading: Sequence[Measured]) -> Table:
    """One table with both, and the ratios to largeds_native, as in the tables of `largeds bench`."""
    out = Table(title="images/s", title_justify="left")
    out.add_column("")
    for work in ("packing", "loading"):
        out.add_column(work, justify="right")
        out.add_column(f"x {OURS}", justify="right")
    for pack, load in zip(packing, loading, strict=True):
        cells = []
        for one, results in ((pack, packing), (load, loading)):
            cells += [f"{one.median:,.0f} ±{one.spread:.0%}", f"{one.median / results[0].median:.2f}"]
        out.add_row(pack.name, *cells, style="bold" if pack.role == "ours" else "")
    return out
