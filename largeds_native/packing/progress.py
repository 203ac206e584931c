"""The progress bar of a pack: images/s, bytes/s of the source, time left, failures. Only on a terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from largeds_native._internal.terminal import on_terminal
from largeds_native._internal.units import size


class PackProgressBar:
    def __init__(self, total: int | None, enabled: bool) -> None:
        self._bar: Any = None
        self._task: Any = None
        if not (enabled and on_terminal()):
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("packing"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[failed]}"),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("pack", total=total, rate="", failed="")

    def update(self, done: int, failed: int, rate: float, read_rate: float = 0.0) -> None:
        """rate: images/s. read_rate: bytes/s of files and objects that were read, 0 where there are none."""
        if self._bar is not None:
            failures = f"[red]{failed:,} failed" if failed else ""
            read = f", {size(read_rate)}/s" if read_rate else ""
            self._bar.update(self._task, completed=done, rate=f"{rate:,.0f} images/s{read}", failed=failures)

    def __enter__(self) -> PackProgressBar:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
