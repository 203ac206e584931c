"""What a run's optimizer and scheduler were made with, to say when a resumed run was given something else."""

from __future__ import annotations

import warnings
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

_DERIVED = ("initial_lr", "base_lrs", "last_epoch", "verbose")


class Settings:
    """The plain numbers of an optimizer and a scheduler when the trainer was made; after a resume, the checkpoint's."""

    def __init__(self, optimizer: Optimizer, scheduler: Any) -> None:
        self._given: dict[str, Any] = {}
        several = len(optimizer.param_groups) > 1
        for number, group in enumerate(optimizer.param_groups):
            of_group = _plain(group) | ({"lr": group["initial_lr"]} if "initial_lr" in group else {})
            prefix = f"group {number} " if several else ""
            self._given |= {f"{prefix}{name}": value for name, value in of_group.items()}
        if scheduler is not None:
            name = type(scheduler).__name__
            self._given |= {f"{name}'s {key}": value for key, value in _plain(scheduler.state_dict()).items()}
        self._values = self._given

    def state_dict(self) -> dict[str, Any]:
        """Name -> number."""
        return self._values

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """These are the run's settings from now on."""
        self._values = state

    def warn_of_others(self, path: object) -> None:
        """One warning if the checkpoint's settings, which hold, are not those given here."""
        changed = [
            f"{name} {self._values[name]}, not {given}"
            for name, given in self._given.items()
            if name in self._values and self._values[name] != given
        ]
        if changed:
            warnings.warn(
                f"{path}: the run goes on with the checkpoint's settings: {'; '.join(changed)}. For others, change "
                "optimizer.param_groups in a callback's on_fit_start, or begin in another checkpoint_dir",
                stacklevel=4,
            )


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Those that are numbers or short lists of them, without what belongs to the moment."""
    found = {}
    for name, value in settings.items():
        if isinstance(value, Tensor) and value.numel() == 1:
            value = value.item()
        members = value if isinstance(value, (list, tuple)) else (value,)
        plain = all(member is None or isinstance(member, (bool, int, float, str)) for member in members)
        if plain and len(members) < 10 and name != "params" and name not in _DERIVED and not name.startswith("_"):
            found[name] = value
    return found
