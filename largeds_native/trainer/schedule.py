"""When a learning rate scheduler steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch.optim.lr_scheduler import ReduceLROnPlateau

from largeds_native.errors import ArgumentError
from largeds_native.trainer.arguments import check_monitored

if TYPE_CHECKING:
    from largeds_native.trainer.accumulation import StepResult


class Schedule:
    """Steps a scheduler each epoch, or after each step that was taken; ReduceLROnPlateau sees the monitored number."""

    def __init__(self, scheduler: Any, by: str) -> None:
        if by not in ("epoch", "step"):
            raise ArgumentError(f"expected scheduler_by 'epoch' or 'step', found {by!r}")
        self._scheduler, self._by = scheduler, by
        self.watches = isinstance(scheduler, ReduceLROnPlateau)  # the monitored number
        if self.watches and by == "step":
            raise ArgumentError("expected scheduler_by 'epoch' with ReduceLROnPlateau, found 'step'")

    def after_step(self, result: StepResult) -> None:
        """A step that was skipped doesn't count."""
        if self._scheduler is not None and self._by == "step" and result.stepped:
            self._scheduler.step()

    def after_epoch(self, logs: Mapping[str, float], monitor: str) -> None:
        """With the epoch's numbers."""
        if self.watches:
            check_monitored("ReduceLROnPlateau", monitor, logs)
            self._scheduler.step(logs[monitor])
        elif self._scheduler is not None and self._by == "epoch":
            self._scheduler.step()
