"""The progress of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class RunProgress:
    """The counts of a run, and the logs of each epoch."""

    epoch: int = 0  # finished epochs
    step: int = 0  # optimizer steps, over all epochs
    skipped: int = 0  # steps that were skipped
    steps_in_epoch: int = 0
    trained: dict[str, float] | None = None  # this epoch's training is done, its validation not; how fast it was
    history: list[dict[str, float]] = field(default_factory=list)

    def state_dict(self) -> dict[str, Any]:
        """All counts and logs."""
        return {**vars(self), "history": list(self.history)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        for name in ("epoch", "step", "skipped", "steps_in_epoch", "trained"):
            setattr(self, name, state[name])
        self.history = list(state["history"])
