"""What a batch looks like to its user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class BatchStructure:
    """Makes a batch of the tensors that the core fills: the images of each view, then the fields.

    views: how many views there are, and `listed`: whether they come as a list, ([view, view], *fields).
    """

    views: int = 1
    listed: bool = False

    def is_image(self, part: int) -> bool:
        """Whether the tensor with this number has images, which are normalised."""
        return part < self.views

    def batch(self, parts: tuple[Tensor, ...]) -> tuple[Any, ...]:
        return (list(parts[: self.views]), *parts[self.views :]) if self.listed else parts
