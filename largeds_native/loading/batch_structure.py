"""What a batch looks like to its user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class BatchStructure:
    """Makes a batch of the tensors that the core fills: for each view its images and then its pictures, and after all
    views the other fields.

    views: how many views there are, and `listed`: whether they come as a list, ([view, view], *fields).
    fields: the names in the order of the batch. pictures: those of them that are pictures, and whether each is a mask.
    keys: of the images and of each field, for batches that are dicts; None: they are tuples.
    """

    views: int = 1
    listed: bool = False
    fields: tuple[str, ...] = ()
    pictures: Mapping[str, bool] = field(default_factory=dict)
    keys: tuple[str, ...] | None = None

    def view_of(self, part: int) -> int | None:
        """The view whose images are in the tensor with this number; None for pictures and other fields, which are
        neither coloured nor normalised."""
        view, picture = divmod(part, 1 + len(self.pictures))
        return view if view < self.views and picture == 0 else None

    def batch(self, parts: tuple[Tensor, ...]) -> tuple[Any, ...] | dict[str, Any]:
        """(images, *fields), or a dict of them by their keys."""
        members = self._members(parts)
        return members if self.keys is None else dict(zip(self.keys, members, strict=True))

    def _members(self, parts: tuple[Tensor, ...]) -> tuple[Any, ...]:
        """(images, *fields): masks are (n, H, W), and with several views there is a list of them too."""
        if not self.listed and not self.pictures:
            return parts
        step = 1 + len(self.pictures)
        ends = self.views * step
        seen: list[Any] = [list(parts[first:ends:step]) for first in range(step)]
        for views, is_mask in zip(seen[1:], self.pictures.values(), strict=True):
            views[:] = [one.squeeze(1) if is_mask else one for one in views]
        if not self.listed:
            seen = [only for (only,) in seen]
        by_name = dict(zip(self.pictures, seen[1:], strict=True))
        others = iter(parts[ends:])
        return (seen[0], *(by_name[name] if name in by_name else next(others) for name in self.fields))
