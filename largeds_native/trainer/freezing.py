"""Train only a part of a model."""

from __future__ import annotations

from torch import nn

from largeds_native.errors import ArgumentError
from largeds_native.trainer.callbacks import Callback, TrainingRun
from largeds_native.trainer.ranks import unwrap


class Freeze(Callback):
    """Freeze the named layers: no gradients, and BatchNorm's statistics don't change.

    Args:
        names: names of submodules as in `model.named_modules()`, such as "layer1".
        until_epoch: the epoch (from 0) at whose start they are released; None: never.

    With DistributedDataParallel, set `requires_grad` before wrapping instead: its reducer is built from it.
    """

    def __init__(self, *names: str, until_epoch: int | None = None) -> None:
        self.names, self.until_epoch = names, until_epoch
        self._frozen: list[nn.Parameter] = []

    def on_epoch_start(self, trainer: TrainingRun) -> None:
        """Freeze or release."""
        if self.until_epoch is not None and trainer.epoch >= self.until_epoch:
            self.release()
            return
        modules = dict(unwrap(trainer.model).named_modules())
        for name in self.names:
            if name not in modules:
                raise ArgumentError(f"Freeze: the model has no layer {name!r}; it has {sorted(modules)[1:9]} ...")
            modules[name].eval()
            for parameter in modules[name].parameters():
                if parameter.requires_grad:
                    parameter.requires_grad_(False)
                    self._frozen.append(parameter)

    def on_fit_end(self, trainer: TrainingRun) -> None:
        """Unfreeze the layers."""
        self.release()

    def release(self) -> None:
        """Let the layers train again."""
        for parameter in self._frozen:
            parameter.requires_grad_(True)
        self._frozen.clear()
