"""End a fit when a metric no longer improves."""

from __future__ import annotations

from typing import Any

from largeds_native.errors import ArgumentError
from largeds_native.trainer.arguments import check_monitored
from largeds_native.trainer.best import Best
from largeds_native.trainer.callbacks import Callback, TrainingRun


class EarlyStopping(Callback):
    """Stop after `patience` epochs in a row in which `monitor` did not improve by more than `min_delta`.

    Args:
        monitor: a name in the epoch's logs, such as "val_loss" or "val_accuracy".
        mode: "min" if smaller is better, "max" if larger is.

    Raises ArgumentError if the epoch's logs have no such name, if possible before the first step. Names with "val_"
    need a `val_loader`.
    """

    def __init__(self, monitor: str = "val_loss", patience: int = 5, mode: str = "min", min_delta: float = 0.0) -> None:
        if patience < 1 or min_delta < 0:
            raise ArgumentError(
                f"expected patience >= 1 and min_delta >= 0, found patience={patience}, min_delta={min_delta}"
            )
        self.monitor, self.patience, self.min_delta = monitor, patience, min_delta
        self.best = Best(mode)
        self.waited = 0  # epochs since the best

    def on_fit_start(self, trainer: TrainingRun) -> None:
        """A resumed run that had stopped stays stopped, unless `patience` is larger now."""
        self._stop_if_due(trainer)

    def on_epoch_end(self, trainer: TrainingRun, logs: dict[str, float]) -> None:
        """Count this epoch."""
        check_monitored("EarlyStopping", self.monitor, logs)
        self.waited = 0 if self.best.improves(logs[self.monitor], self.min_delta) else self.waited + 1
        self._stop_if_due(trainer)

    def _stop_if_due(self, trainer: TrainingRun) -> None:
        if self.waited >= self.patience:
            trainer.stop()

    def state_dict(self) -> dict[str, Any]:
        """The best value, and the number of epochs since then."""
        return {"best": self.best.value, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self.best.value, self.waited = state["best"], state["waited"]
