"""How far a run is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class RunProgress:
    """Counts of a run, and the numbers of each epoch."""

    epoch: int = 0  # epochs done
    step: int = 0  # optimizer steps, over all epochs
    skipped: int = 0  # those of them that were left out
    steps_in_epoch: int = 0
    trained: dict[str, float] | None = None  # this epoch's training is done, its validation not; how fast it was
    history: list[dict[str, float]] = field(default_factory=list)

    def state_dict(self) -> dict[str, Any]:
        """All of it."""
        return {**vars(self), "history": list(self.history)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict()`."""
        for name in ("epoch", "step", "skipped", "steps_in_epoch", "trained"):
            setattr(self, name, state[name])
        self.history = list(state["history"])
