"""The views of each sample that a loader makes, in each epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from largeds_native.errors import ArgumentError
from largeds_native.transform import Augment

MAX_VIEWS = 1024
OTHERS = ". Transforms of other libraries are applied to the batches that the loader gives"
Views = Augment | Sequence[Augment] | None  # a list gives each batch a list of views


class ViewSchedule:
    """The transforms of the views, which may depend on the epoch.

    augment: one `Augment`, a list with one for each view, None, or a function of the epoch that returns one of these.

    Raises ArgumentError for anything else, before the first epoch as far as the function's result for epoch 0 tells.
    """

    def __init__(self, augment: Views | Callable[[int], Views]) -> None:
        self._augment = augment
        first = self._given(0)
        self.listed = isinstance(first, Sequence)  # whether a batch has a list of views, of which there may be one
        self._count = len(_checked(first))

    def at(self, epoch: int) -> tuple[Augment, ...]:
        """One transform for each view."""
        given = self._given(epoch)
        views = _checked(given)
        if isinstance(given, Sequence) != self.listed or len(views) != self._count:
            expected = f"a list of {self._count}" if self.listed else "one Augment"
            found = f"a list of {len(views)}" if isinstance(given, Sequence) else "one"
            raise ArgumentError(
                f"augment: in epoch {epoch}, expected {expected} as in epoch 0, found {found}: the number of views "
                "stays the same"
            )
        return views

    def _given(self, epoch: int) -> Any:
        if not callable(self._augment):
            return self._augment
        name = getattr(self._augment, "__name__", type(self._augment).__name__)
        expected = "augment: expected a function of the epoch that returns an Augment or a list of them, but "
        try:
            given = self._augment(epoch)
        except Exception as error:  # also of what is no function of the epoch, such as a ColorAugment
            raised = f"{name}({epoch}) raised {type(error).__name__}: {error}"
            raise ArgumentError(f"{expected}{raised}{OTHERS}") from error
        if not isinstance(given, Augment | Sequence | None):
            raise ArgumentError(f"{expected}{name}({epoch}) returned {type(given).__name__}{OTHERS}")
        return given


def _checked(augment: Any) -> tuple[Augment, ...]:
    views = augment if isinstance(augment, Sequence) and not isinstance(augment, str) else [augment]
    if not 1 <= len(views) <= MAX_VIEWS:
        raise ArgumentError(f"augment: expected 1 to {MAX_VIEWS} views, found a list of {len(views)}")
    if augment is None:
        return (Augment(),)
    for view in views:
        if not isinstance(view, Augment):
            raise ArgumentError(
                f"augment: expected an Augment, a list of them, a function of the epoch that returns these, or None, "
                f"found {type(view).__name__}"
            )
    return tuple(views)
