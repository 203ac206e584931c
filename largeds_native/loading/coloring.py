"""The colours of a loader's views, applied before normalising."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from largeds_native.errors import ArgumentError
from largeds_native.store import Store
from largeds_native.transform import ColorAugment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Colors = ColorAugment | Sequence[ColorAugment | None] | None  # a list has one for each view


@dataclass(frozen=True)
class Coloring:
    """One ColorAugment or None for each view; the draws are those of (seed, epoch, key, view)."""

    colors: tuple[ColorAugment | None, ...]
    seed: int

    def apply(
        self, images: Tensor, view: int, epoch: int, keys: NDArray[np.int64], out: Tensor | None = None
    ) -> Tensor:
        """The images of this view in colour, in `out` unless nothing changes."""
        color = self.colors[view]
        return images if color is None else color(images, seed=self.seed, epoch=epoch, keys=keys, view=view, out=out)


def coloring_of(color: Any, store: Store, views: int, seed: int) -> Coloring | None:
    """None: nothing to do. Raises ArgumentError for another type, a list of another length than there are views, or a
    store whose images are normalised already."""
    one_each = isinstance(color, Sequence) and not isinstance(color, str)
    colors = tuple(color) if one_each else (color,) * views
    for one in colors:
        if one is not None and not isinstance(one, ColorAugment):
            raise ArgumentError(
                f"color: expected a ColorAugment, a list with one or None for each view, or None, found "
                f"{type(one).__name__}"
            )
    if len(colors) != views:
        raise ArgumentError(
            f"color: expected one for each view, of which there are {views}, found a list of {len(colors)}"
        )
    if all(one is None for one in colors):
        return None
    if store.mean is not None:
        raise ArgumentError(
            f"color: the images of {store.path} were normalised when they were packed, and colours change only before: "
            "pack without mean and std, and pass them to the Loader"
        )
    return Coloring(colors, seed)


def check_shapes(coloring: Coloring | None, shapes: Sequence[tuple[int, int, int]]) -> None:
    """Raises ArgumentError unless the images of each view, of this (C, H, W), can be augmented."""
    for color, shape in zip(coloring.colors if coloring else (), shapes, strict=bool(coloring)):
        if color is not None:
            color.check(*shape)
