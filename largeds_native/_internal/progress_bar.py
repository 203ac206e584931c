"""Progress of an export, an import, a copy or a verification: a bar, or a function of the caller."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from largeds_native._internal.terminal import on_terminal

ProgressCallback = Callable[[int, int], object]  # (done, total): rows, or bytes


@contextmanager
def progress_of(
    progress: bool | ProgressCallback | None, title: str, *, of_bytes: bool = False
) -> Iterator[ProgressCallback]:
    """Yields the function to call with the progress. True shows a bar on stderr if that is a terminal; of_bytes: with
    units, and their rate."""
    if callable(progress):
        yield progress
        return
    if not (progress and on_terminal()):
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    counts = (DownloadColumn(), TransferSpeedColumn()) if of_bytes else (MofNCompleteColumn(),)
    columns = (TextColumn("{task.description}"), BarColumn(), *counts, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
