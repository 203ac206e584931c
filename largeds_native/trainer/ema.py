"""An exponential moving average of the weights (Polyak and Juditsky 1992), used for validation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from largeds_native.errors import ArgumentError
from largeds_native.trainer.callbacks import Callback, TrainingRun, never, reads_norm
from largeds_native.trainer.ranks import unwrap
from largeds_native.trainer.sharding import local_part

if TYPE_CHECKING:
    from largeds_native.trainer.step_result import StepResult


class EMA(Callback):
    """Keep `average = decay * average + (1 - decay) * weight` after each step, and validate with the average.

    Args:
        decay: from 0 to below 1.
        every: steps between two updates; the decay is raised to this power, so that its time scale stays the same.

    `best.pt` contains the average that was evaluated as "model", and the weights to continue from as "training_model".
    Buffers (BatchNorm's statistics) are not averaged. `copy_to(model)` writes the average into a model.
    """

    def __init__(self, decay: float = 0.999, every: int = 1) -> None:
        if not 0 <= decay < 1 or every < 1:
            raise ArgumentError(f"expected 0 <= decay < 1 and every >= 1, found decay={decay}, every={every}")
        self.decay, self.every = decay, every
        self.average: dict[str, Tensor] = {}
        self._own: dict[str, Tensor] = {}
        self._parts: tuple[list[Tensor], list[Tensor]] | None = None  # averages and weights, of this epoch

    def on_fit_start(self, trainer: TrainingRun) -> None:
        """Start from the current weights, unless a checkpoint had an average."""
        parameters = dict(unwrap(trainer.model).named_parameters())
        if not self.average:
            self.average = {name: p.detach().clone() for name, p in parameters.items()}
        self.average = {name: value.to(parameters[name].device) for name, value in self.average.items()}
        self._parts = None

    def on_epoch_start(self, trainer: TrainingRun) -> None:
        """The model may have other parameters than in the epoch before."""
        self._parts = None

    @reads_norm(never)
    def on_step(self, trainer: TrainingRun, result: StepResult) -> None:
        """Update the average with the new weights."""
        if trainer.step % self.every == 0:
            if self._parts is None:  # a walk through all modules, which takes longer than the average itself
                weights = [local_part(p.detach()) for p in unwrap(trainer.model).parameters()]
                self._parts = [local_part(value) for value in self.average.values()], weights
            torch._foreach_lerp_(*self._parts, 1 - self.decay**self.every)

    def on_evaluate_start(self, trainer: TrainingRun) -> None:
        """Put the average into the model."""
        if self.average:
            self._own = {name: p.detach().clone() for name, p in unwrap(trainer.model).named_parameters()}
            self.copy_to(unwrap(trainer.model))

    def on_evaluate_end(self, trainer: TrainingRun) -> None:
        """Put the model's own weights back."""
        if self._own:
            _copy(self._own, unwrap(trainer.model))
            self._own = {}

    def copy_to(self, model: nn.Module) -> None:
        """Write the average into the model's parameters."""
        _copy(self.average, model)

    def state_dict(self) -> dict[str, Any]:
        """The average."""
        return {"average": self.average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved average."""
        self.average = dict(state["average"])
        self._parts = None


def averaged_weights(averages: list[EMA], trainer: TrainingRun) -> dict[str, Tensor]:
    """A copy of the model's state as it is evaluated, with the averages in it."""
    for ema in averages:
        ema.on_evaluate_start(trainer)
    state = {name: value.clone() for name, value in unwrap(trainer.model).state_dict().items()}
    for ema in reversed(averages):
        ema.on_evaluate_end(trainer)
    return state


@torch.no_grad()
def _copy(values: dict[str, Tensor], model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        parameter.copy_(values[name])
