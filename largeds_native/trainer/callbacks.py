"""What may be called during a fit. A callback overrides the moments it wants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from largeds_native.trainer.group import StepResult
    from largeds_native.trainer.trainer import Trainer


class Callback:
    """The base of all callbacks: every moment does nothing. What must survive a resume goes into `state_dict`."""

    def on_fit_start(self, trainer: Trainer) -> None:
        """Before the first epoch, after a checkpoint was read."""

    def on_epoch_start(self, trainer: Trainer) -> None:
        """Before each epoch; the model is in training mode."""

    def on_step(self, trainer: Trainer, result: StepResult) -> None:
        """After each optimizer step."""

    def on_evaluate_start(self, trainer: Trainer) -> None:
        """Before a pass over a validation loader."""

    def on_evaluate_end(self, trainer: Trainer) -> None:
        """After it, also when it failed."""

    def on_epoch_end(self, trainer: Trainer, logs: dict[str, float]) -> None:
        """After each epoch with its numbers, such as `train_loss` and `val_loss`; `logs` may be added to."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """After the last epoch, also when the fit failed."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values for the checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict()`."""
