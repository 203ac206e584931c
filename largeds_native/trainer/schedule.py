"""Steps a learning rate scheduler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.optim.lr_scheduler import ReduceLROnPlateau

from largeds_native.errors import ArgumentError
from largeds_native.trainer.arguments import check_monitored


class Schedule:
    """Steps a scheduler per epoch or per optimizer step; ReduceLROnPlateau gets the monitored metric."""

    def __init__(self, scheduler: Any, by: str) -> None:
        if by not in ("epoch", "step"):
            raise ArgumentError(f"expected scheduler_by 'epoch' or 'step', found {by!r}")
        self._scheduler, self._by = scheduler, by
        self.watches = isinstance(scheduler, ReduceLROnPlateau)  # the monitored number
        if self.watches and by == "step":
            raise ArgumentError("expected scheduler_by 'epoch' with ReduceLROnPlateau, found 'step'")

    def after_step(self, *, stepped: bool) -> None:
        """After an optimizer step; skipped steps don't count. Where that is known later, the call comes later, too,
        before the next optimizer step."""
        if self._scheduler is not None and self._by == "step" and stepped:
            self._scheduler.step()

    def after_epoch(self, logs: Mapping[str, float], monitor: str) -> None:
        """After an epoch, with its logs."""
        if self.watches:
            check_monitored("ReduceLROnPlateau", monitor, logs)
            self._scheduler.step(logs[monitor])
        elif self._scheduler is not None and self._by == "epoch":
            self._scheduler.step()
