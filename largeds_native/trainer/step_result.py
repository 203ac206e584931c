"""The numbers of one optimizer step."""

from __future__ import annotations

from typing import Protocol

Numbers = tuple[float, float, float, bool]  # loss, weight, gradient_norm, stepped


class Unread(Protocol):
    """A step whose numbers are on their way."""

    @property
    def ready(self) -> bool: ...

    def outcome(self) -> Numbers: ...


class StepResult:
    """One optimizer step. On a CUDA device its numbers arrive while the next step runs: reading one before then waits
    for the device, `ready` does not.

    Attributes:
        loss: the weighted mean over this rank's samples; NaN if their weights are 0.
        weight: the sum of their weights.
        samples: their number, known at once.
        gradient_norm: before clipping.
        stepped: False if the step was skipped, because a loss or gradient was not finite.
    """

    __slots__ = ("_numbers", "_unread", "samples", "steps_or_raises")

    def __init__(self, loss: float, weight: float, samples: int, gradient_norm: float, stepped: bool) -> None:
        self.samples = samples
        self.steps_or_raises = stepped  # it is known that the step was not skipped
        self._numbers: Numbers | None = (loss, weight, gradient_norm, stepped)
        self._unread: Unread | None = None

    @classmethod
    def later(cls, samples: int, unread: Unread, steps_or_raises: bool) -> StepResult:
        """Of a step whose numbers are still on the device."""
        result = cls(0.0, 0.0, samples, 0.0, steps_or_raises)
        result._numbers, result._unread = None, unread
        return result

    @property
    def ready(self) -> bool:
        """Whether the numbers are there, so that reading them does not wait."""
        return self._unread is None or self._unread.ready

    @property
    def may_raise(self) -> bool:
        """Whether its numbers are still on the device, and settling it raises if one of them is not finite."""
        return self._unread is not None and self.steps_or_raises

    @property
    def loss(self) -> float:
        return self._all()[0]

    @property
    def weight(self) -> float:
        return self._all()[1]

    @property
    def gradient_norm(self) -> float:
        return self._all()[2]

    @property
    def stepped(self) -> bool:
        return self._all()[3]

    def _all(self) -> Numbers:
        if self._numbers is None:
            assert self._unread is not None
            self._numbers = self._unread.outcome()
            self._unread = None  # it keeps the step's losses
        return self._numbers

    def __repr__(self) -> str:
        loss, weight, gradient_norm, stepped = self._all()
        return (
            f"StepResult(loss={loss}, weight={weight}, samples={self.samples}, gradient_norm={gradient_norm}, "
            f"stepped={stepped})"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StepResult) and (self.samples, *self._all()) == (other.samples, *other._all())

    __hash__ = None  # type: ignore[assignment]
