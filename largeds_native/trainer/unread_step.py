"""A step whose numbers are on their way from the device. See Note [A step later] in optimizer_step.py."""

from __future__ import annotations

import math
from dataclasses import dataclass

from largeds_native.errors import NonFiniteError
from largeds_native.trainer.micro_batches import MicroBatches
from largeds_native.trainer.readback import Readback
from largeds_native.trainer.step_result import Numbers
from largeds_native.trainer.weighting import Weighting


@dataclass
class UnreadStep:
    """The numbers of one step: its losses, the norm if it was computed, and a flag, whether one of them, or of the
    gradients, on any rank, is not finite that should be."""

    number: int
    group: MicroBatches
    weighting: Weighting
    numbers: Readback
    norm: float | None  # where it is known at once: 0.0 without a gradient, NaN if it was not computed
    skips: bool  # a wrong step is no error

    @property
    def ready(self) -> bool:
        """Whether the numbers are there."""
        return self.numbers.ready

    def outcome(self) -> Numbers:
        """Those of the StepResult."""
        losses, weights, norm, wrong = self._read()
        loss, weight = self.weighting.mean_loss(losses, weights)
        overflown = self.weighting.scaler is not None and not math.isfinite(norm)
        return loss, weight, norm, not wrong and not overflown

    def check(self) -> None:
        """Raises NonFiniteError if this step's numbers, which are read now, are wrong and it was not to be skipped.
        Otherwise nothing of the step stays on the device."""
        losses, weights, norm, wrong = self._read()
        if wrong and not self.skips:
            known = norm if self.norm is None else None
            raise NonFiniteError(self.group.describe(losses, weights, known, self.number))
        self.group.losses.clear()

    def _read(self) -> tuple[list[float], list[float], float, bool]:
        *values, wrong = self.numbers.read()
        weights = [float(weight) for weight in self.group.weights]  # one for each loss
        norm = values[len(weights)] if self.norm is None else self.norm
        return values[: len(weights)], weights, norm, bool(wrong)
