"""End a fit when a number no longer gets better."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from largeds_native.errors import ArgumentError
from largeds_native.trainer.callbacks import Callback

if TYPE_CHECKING:
    from largeds_native.trainer.trainer import Trainer


class EarlyStopping(Callback):
    """Stop after `patience` epochs in a row in which `monitor` did not improve by more than `min_delta`.

    Args:
        monitor: a name in the epoch's numbers, such as "val_loss" or "val_accuracy".
        mode: "min" or "max": which way is better.
    """

    def __init__(self, monitor: str = "val_loss", patience: int = 5, mode: str = "min", min_delta: float = 0.0) -> None:
        if mode not in ("min", "max") or patience < 1 or min_delta < 0:
            raise ArgumentError(
                "expected mode 'min' or 'max', patience >= 1 and min_delta >= 0, "
                f"found mode={mode!r}, patience={patience}, min_delta={min_delta}"
            )
        self.monitor, self.patience, self.mode, self.min_delta = monitor, patience, mode, min_delta
        self.best = math.inf if mode == "min" else -math.inf
        self.waited = 0

    def on_epoch_end(self, trainer: Trainer, logs: dict[str, float]) -> None:
        """Count this epoch."""
        if self.monitor not in logs:
            raise ArgumentError(f"EarlyStopping: no {self.monitor!r} among {sorted(logs)}")
        value = logs[self.monitor]
        gain = self.best - value if self.mode == "min" else value - self.best
        if gain > self.min_delta:
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        if self.waited >= self.patience:
            trainer.stop()

    def state_dict(self) -> dict[str, Any]:
        """The best value and the epochs since."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.best, self.waited = state["best"], state["waited"]
