"""What a batch looks like to its user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class BatchStructure:
    """Makes a batch of the tensors that the core fills: for each view its images and then its masks, and after all
    views the other fields.

    views: how many views there are, and `listed`: whether they come as a list, ([view, view], *fields).
    fields: the names in the order of the batch. masks: those of them that are masks.
    """

    views: int = 1
    listed: bool = False
    fields: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()

    @classmethod
    def of(cls, views: int, listed: bool, fields: Sequence[str], masks: Sequence[str]) -> BatchStructure:
        return cls(views, listed, tuple(fields), tuple(masks))

    def view_of(self, part: int) -> int | None:
        """The view whose images are in the tensor with this number; None for masks and other fields, which are neither
        coloured nor normalised."""
        view, picture = divmod(part, 1 + len(self.masks))
        return view if view < self.views and picture == 0 else None

    def batch(self, parts: tuple[Tensor, ...]) -> tuple[Any, ...]:
        """(images, *fields): masks are (n, H, W), and with several views there is a list of them too."""
        if not self.listed and not self.masks:
            return parts
        pictures = 1 + len(self.masks)
        ends = self.views * pictures
        seen: list[Any] = [list(parts[first:ends:pictures]) for first in range(pictures)]
        for masks in seen[1:]:
            masks[:] = [mask.squeeze(1) for mask in masks]
        if not self.listed:
            seen = [only for (only,) in seen]
        by_name = dict(zip(self.masks, seen[1:], strict=True))
        others = iter(parts[ends:])
        return (seen[0], *(by_name[name] if name in by_name else next(others) for name in self.fields))
