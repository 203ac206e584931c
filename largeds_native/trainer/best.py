"""Tracks the best value of a metric."""

from __future__ import annotations

from typing import Any

from largeds_native.errors import ArgumentError


class Best:
    """Remembers the smallest ("min") or largest ("max") value; NaN is never the best.

    Attributes: `value`: None before the first call of `improves`.
    """

    def __init__(self, mode: str, name: str = "mode") -> None:
        if mode not in ("min", "max"):
            raise ArgumentError(f"expected {name} 'min' or 'max', found {mode!r}")
        self.value: float | None = None
        self._sign = 1.0 if mode == "min" else -1.0

    def improves(self, value: float, by_more_than: float = 0.0) -> bool:
        """Whether the value is better than the best one so far; if so, it becomes the best."""
        if value != value:
            return False
        better = self.value is None or self._sign * (self.value - value) > by_more_than
        if better:
            self.value = value
        return better

    def state_dict(self) -> dict[str, Any]:
        """The best value."""
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self.value = state["value"]
