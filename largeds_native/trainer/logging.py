"""Log a fit to a CSV file or to TensorBoard. Only rank 0 writes."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeds_native.trainer.callbacks import Callback, TrainingRun, reads_norm

if TYPE_CHECKING:
    from largeds_native.trainer.step_result import StepResult


class CSVLogger(Callback):
    """One line per epoch. After a resume, the lines of epochs that are trained again are replaced."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def on_epoch_end(self, trainer: TrainingRun, logs: dict[str, float]) -> None:
        """Write the whole history: it is short, and so the file is correct after any resume."""
        if trainer.ranks.rank != 0:
            return
        rows = [*trainer.history, logs]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        with open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        os.replace(temporary, self.path)


class TensorBoardLogger(Callback):
    """Logs loss, gradient norm and learning rate every `every` steps, and each epoch's logs, to `folder`. Needs
    `tensorboard`."""

    def __init__(self, folder: str | os.PathLike[str], every: int = 50) -> None:
        self.folder, self.every = Path(folder), every
        self._writer: Any = None
        self._unwritten: list[tuple[StepResult, int, float]] = []  # result, step, learning rate

    def on_fit_start(self, trainer: TrainingRun) -> None:
        """Open the event file; points after the resumed step are purged."""
        if trainer.ranks.rank == 0:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder), purge_step=trainer.step)

    @reads_norm(lambda self, step: step % self.every == 0)
    def on_step(self, trainer: TrainingRun, result: StepResult) -> None:
        """Write the step's numbers when they are there; nothing waits for them before the epoch's end."""
        if self._writer is None:
            return
        if trainer.step % self.every == 0:
            self._unwritten.append((result, trainer.step, trainer.optimizer.param_groups[0]["lr"]))
        while self._unwritten and self._unwritten[0][0].ready:
            self._write_first()

    def _write_first(self) -> None:
        result, step, learning_rate = self._unwritten.pop(0)
        self._writer.add_scalar("step/loss", result.loss, step)
        self._writer.add_scalar("step/gradient_norm", result.gradient_norm, step)
        self._writer.add_scalar("step/learning_rate", learning_rate, step)

    def on_epoch_end(self, trainer: TrainingRun, logs: dict[str, float]) -> None:
        """Write the epoch's numbers."""
        if self._writer is not None:
            while self._unwritten:
                self._write_first()
            for name, value in logs.items():
                self._writer.add_scalar(f"epoch/{name}", value, trainer.step)
            self._writer.flush()

    def on_fit_end(self, trainer: TrainingRun) -> None:
        """Close the event file."""
        if self._writer is not None:
            while self._unwritten:
                self._write_first()
            self._writer.close()
            self._writer = None
