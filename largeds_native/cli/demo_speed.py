"""The demo's table: images/s for packing and for loading, ours and the usual ways, measured there and then."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from largeds_native.cli import peers
from largeds_native.measure import Contender, Measured, take_turns

if TYPE_CHECKING:
    from largeds_native.store import Store

OURS, TORCHVISION, HDF5 = "largeds_native", "torchvision + DataLoader", "HDF5 + DataLoader"


def packing(jpegs: Path, work: Path, threads: int, note: Callable[[str], object]) -> list[Measured]:
    """JPEG files to 224x224 on disk: a store, a .npy file, an HDF5 file."""
    import largeds_native as lds

    def fresh() -> None:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)

    def ours() -> int:
        with lds.pack(jpegs, work / "store.lds", threads=threads, progress=False) as store:
            return len(store)

    contenders = [
        Contender(OURS, ours, "ours", before=fresh),
        Contender(TORCHVISION, lambda: peers.pack_memmap(jpegs, work / "images.npy", threads), before=fresh),
        Contender(HDF5, lambda: peers.pack_hdf5(jpegs, work / "images.h5", threads), before=fresh),
    ]
    try:
        return take_turns(contenders, rounds=2, warmup=1, progress=lambda text: note(f"packing: {text}"))
    finally:
        shutil.rmtree(work, ignore_errors=True)
        note("")


def loading(jpegs: Path, store: Store, chunked: Path, threads: int, note: Callable[[str], object]) -> list[Measured]:
    """Random batches of 256, 3x224x224, normalised float32: from the store, the JPEG files, an HDF5 file."""
    import largeds_native as lds

    chunked.unlink(missing_ok=True)
    store.to_hdf5(chunked, layout="chunked")
    batches = lds.Loader(store, 256, mean=peers.MEAN, std=peers.STD, threads=threads)
    files = peers.loader(peers.image_folder(jpegs, normalised=True), threads)
    rows = peers.loader(peers.HDF5Rows(chunked), threads)
    contenders = [
        Contender(OURS, lambda: sum(peers.count(batches) for _ in range(8)), "ours"),
        Contender(TORCHVISION, lambda: peers.count(files)),
        Contender(HDF5, lambda: peers.count(rows)),
    ]
    try:
        return take_turns(contenders, rounds=3, warmup=1, progress=lambda text: note(f"loading: {text}"))
    finally:
        batches.close()
        chunked.unlink(missing_ok=True)
        note("")


def joined_table(packing: Sequence[Measured], loading: Sequence[Measured]) -> Table:
    """One table with both; the last columns say how many times as fast we are."""
    out = Table(title="images/s", title_justify="left")
    out.add_column("")
    for work in ("packing", "loading"):
        out.add_column(work, justify="right")
        out.add_column("ours is", justify="right")
    for pack, load in zip(packing, loading, strict=True):
        cells = []
        for one, results in ((pack, packing), (load, loading)):
            times = results[0].median / one.median
            cells += [f"{one.median:,.0f} ±{one.spread:.0%}", "" if one is results[0] else f"{times:.1f}x"]
        out.add_row(pack.name, *cells, style="bold" if pack.role == "ours" else "")
    return out
