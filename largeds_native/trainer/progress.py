"""A progress bar: loss, images/s, and the share of time spent waiting for data."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from largeds_native.trainer.callbacks import Callback, TrainingRun, never, reads_norm

if TYPE_CHECKING:
    from largeds_native.trainer.step_result import StepResult


class ProgressBar(Callback):
    """One bar per epoch on a terminal, else one line per epoch; before these, the checkpoint from which a run goes on.
    Only rank 0 shows them."""

    REFRESH = 0.1  # seconds between two updates; more would cost time, and nobody could read them

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._drawn = 0.0
        self._last: StepResult | None = None  # the last step whose numbers were there
        self._coming: StepResult | None = None

    def on_fit_start(self, trainer: TrainingRun) -> None:
        """Say from which checkpoint the run goes on."""
        if trainer.ranks.rank == 0 and trainer.resumed_from is not None:
            done = f"epochs done: {trainer.epoch}, steps done: {trainer.step}"
            print(f"resumed from {trainer.resumed_from} ({done})", file=sys.stderr, flush=True)

    def on_epoch_start(self, trainer: TrainingRun) -> None:
        """Start the bar of the epoch."""
        if trainer.ranks.rank != 0:
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        if not console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            console=console,
            auto_refresh=False,  # the loop itself draws it, without another thread
        )
        total = trainer.steps_per_epoch
        self._task = self._bar.add_task("", total=total, epoch=trainer.epoch + 1, numbers="")
        self._bar.start()

    @reads_norm(never)
    def on_step(self, trainer: TrainingRun, result: StepResult) -> None:
        """Redraw the bar, at most every `REFRESH` seconds."""
        if self._bar is None:
            return
        if self._coming is not None and self._coming.ready:
            self._last = self._coming
        self._coming = result
        if result.ready:
            self._last = result
        now = time.perf_counter()
        if now - self._drawn > self.REFRESH:
            self._drawn = now
            speed = trainer.speed()
            loss = "" if self._last is None else f"loss {self._last.loss:.4f}  "
            numbers = f"{loss}{speed['images_per_s']:,.0f} img/s  data {speed['data_share']:.0%}"
            self._bar.update(self._task, completed=trainer.steps_in_epoch, numbers=numbers)
            self._bar.refresh()

    def on_epoch_end(self, trainer: TrainingRun, logs: dict[str, float]) -> None:
        """Remove the bar, and print one line with the epoch's logs."""
        self.on_fit_end(trainer)
        if trainer.ranks.rank == 0:
            hidden = ("epoch", "step", "data_share")
            numbers = "  ".join(f"{name} {value:.4g}" for name, value in logs.items() if name not in hidden)
            print(f"epoch {trainer.epoch + 1}: {numbers}  data {logs['data_share']:.0%}", file=sys.stderr, flush=True)

    def on_fit_end(self, trainer: TrainingRun) -> None:
        """Remove the bar, also after an error."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
