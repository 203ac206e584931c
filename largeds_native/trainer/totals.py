"""The sums of one process over an epoch."""

from __future__ import annotations

import math
import time
from typing import Any

from largeds_native.trainer.step_result import StepResult


class EpochTotals:
    """Loss, weight and samples of the epoch so far, and the speed.

    `loss` is the sum of loss times weight over the steps with a finite loss, `weight` the sum of their weights.
    """

    def __init__(self) -> None:
        self.loss = self.weight = 0.0
        self.samples = 0
        self._began, self._samples_then, self._waited_then = 0.0, 0, 0.0

    def start_clock(self, waited: float) -> None:
        """This process starts or continues the epoch now; it has waited `waited` seconds for data until now."""
        self._began, self._samples_then, self._waited_then = time.perf_counter(), self.samples, waited

    def count(self, samples: int) -> None:
        """The samples of one optimizer step."""
        self.samples += samples

    def add(self, result: StepResult) -> None:
        """The numbers of one optimizer step, whose samples `count` counts: on a device they come later."""
        if math.isfinite(result.loss):
            self.loss += result.loss * result.weight
            self.weight += result.weight

    def speed(self, waited: float) -> dict[str, float]:
        """Images/s since `start_clock`, and the share of that time spent waiting for data."""
        seconds = max(time.perf_counter() - self._began, 1e-9)
        return {
            "images_per_s": (self.samples - self._samples_then) / seconds,
            "data_share": (waited - self._waited_then) / seconds,
        }

    def state_dict(self) -> dict[str, Any]:
        """The sums, without the clock, which belongs to this process."""
        return {"loss": self.loss, "weight": self.weight, "samples": self.samples}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self.loss, self.weight, self.samples = state["loss"], state["weight"], state["samples"]

    def load_from_ranks(self, states: list[dict[str, Any]], rank: int, world_size: int) -> None:
        """Continue from the states of another number of ranks: rank 0 has the sums of all of them."""
        sums = {name: sum(state[name] for state in states) for name in ("loss", "weight", "samples")}
        self.loss, self.weight = (sums["loss"], sums["weight"]) if rank == 0 else (0.0, 0.0)
        self.samples = -(-sums["samples"] // world_size)
