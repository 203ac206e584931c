"""Callbacks of a fit. A callback overrides the methods that it needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import os

    from torch import nn
    from torch.optim import Optimizer

    from largeds_native.trainer.ranks import Ranks
    from largeds_native.trainer.step_result import StepResult


class TrainingRun(Protocol):
    """The part of the Trainer that callbacks may use."""

    @property
    def model(self) -> nn.Module:
        """Wrapped in DistributedDataParallel when there are several processes."""

    @property
    def optimizer(self) -> Optimizer: ...

    @property
    def ranks(self) -> Ranks: ...

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""

    @property
    def step(self) -> int:
        """Optimizer steps, over all epochs."""

    @property
    def steps_in_epoch(self) -> int: ...

    @property
    def steps_per_epoch(self) -> int | None:
        """None if the loader has no length."""

    @property
    def history(self) -> list[dict[str, float]]:
        """The logs of each finished epoch."""

    @property
    def resumed_from(self) -> str | os.PathLike[str] | None:
        """The checkpoint from which this fit goes on; None if it began anew, or goes on with the state of the one
        before."""

    def speed(self) -> dict[str, float]:
        """In this epoch so far: `images_per_s`, and `data_share`, the share of the time spent waiting for data."""

    def stop(self) -> None:
        """End this fit after this epoch."""


Method = TypeVar("Method", bound=Callable[..., None])


def reads_norm(when: Callable[[Any, int], bool]) -> Callable[[Method], Method]:
    """Of an `on_step`: whether it may read the gradient's norm of the step with this number, `when(callback, step)`.
    Without this it may always, and the norm costs time; see Note [Norm] in optimizer_step.py."""

    def mark(method: Method) -> Method:
        method.reads_norm = when  # type: ignore[attr-defined]
        return method

    return mark


def never(callback: Any, step: int) -> bool:
    """For `reads_norm`."""
    return False


def _always(callback: Any, step: int) -> bool:
    return True


class Callback:
    """Base class of callbacks: all methods do nothing. State that must survive a resume goes into `state_dict`."""

    def on_fit_start(self, trainer: TrainingRun) -> None:
        """Before the first epoch, after the checkpoint was loaded."""

    def on_epoch_start(self, trainer: TrainingRun) -> None:
        """Before each epoch; the model is in training mode."""

    @reads_norm(never)
    def on_step(self, trainer: TrainingRun, result: StepResult) -> None:
        """After each optimizer step."""

    def on_evaluate_start(self, trainer: TrainingRun) -> None:
        """Before the evaluation on a validation loader."""

    def on_evaluate_end(self, trainer: TrainingRun) -> None:
        """After the evaluation, even if it failed."""

    def on_epoch_end(self, trainer: TrainingRun, logs: dict[str, float]) -> None:
        """After each epoch; `logs` has its `train_loss`, `val_loss` and so on, and the callback may add entries."""

    def on_fit_end(self, trainer: TrainingRun) -> None:
        """After the last epoch, even if the fit failed."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values for the checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""


class Callbacks(list[Callback]):
    """The callbacks of a run, called in turn."""

    def call(self, method: str, trainer: TrainingRun, *arguments: Any) -> None:
        """Call this method of every callback."""
        for callback in self:
            getattr(callback, method)(trainer, *arguments)

    def read_norm(self, step: int) -> bool:
        """Whether one of them may read the gradient's norm of this step. Nobody else gets the StepResult."""
        return any(getattr(callback.on_step, "reads_norm", _always)(callback, step) for callback in self)

    def state_dict(self) -> list[list[Any]]:
        """The class name and the state of each callback."""
        return [[type(callback).__name__, callback.state_dict()] for callback in self]

    def load_state_dict(self, state: list[list[Any]]) -> None:
        """Each callback gets the first remaining state of its class; a new callback keeps its own state."""
        saved = list(state)
        for callback in self:
            found = next((item for item in saved if item[0] == type(callback).__name__), None)
            if found is not None:
                saved.remove(found)
                callback.load_state_dict(found[1])
