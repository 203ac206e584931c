"""What ColorAugment draws for the samples of a batch: a function of (seed, epoch, sample, view)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Range = tuple[float, float]
ORDERS = np.array(list(itertools.permutations(range(4))))
JITTER = ("brightness", "contrast", "saturation", "hue")

# Each draw has its own place among the numbers of a sample, so that it does not change with another option.
APPLY_JITTER, ORDER, FACTORS, GRAYSCALE, BLUR, SIGMA, SOLARIZE, ERASING, TOP, LEFT, AREAS = (
    0,
    1,
    2,
    6,
    7,
    8,
    9,
    10,
    11,
    12,
    13,
)
ATTEMPTS = 10  # torchvision's, to find a rectangle that fits
WITHOUT_ERASING, ALL = TOP, AREAS + 2 * ATTEMPTS


class Step(NamedTuple):
    """An operation on some rows of a block, with a number for each."""

    operation: str
    rows: list[int]
    values: list[float]


@dataclass(frozen=True)
class ColorDraws:
    """Of n samples: which operations (n bools each), and their numbers."""

    jitter: NDArray[np.bool_]
    order: NDArray[np.int64]  # (n, 4): the operations of JITTER in turn
    factors: NDArray[np.float64]  # (n, 4), as JITTER
    grayscale: NDArray[np.bool_]
    blur: NDArray[np.bool_]
    sigma: NDArray[np.float64]
    solarize: NDArray[np.bool_]
    boxes: NDArray[np.int64]  # (n, 4): top, left, height and width of what is erased; a height of 0: nothing

    def steps(self, size: int, used: Sequence[bool]) -> list[list[Step]]:
        """The operations on each block of `size` samples in order; `used` says which of the jitter change anything."""
        turns = np.where(self.jitter[:, None] & np.array(used)[self.order], self.order, -1)
        applied = np.column_stack([turns, self.grayscale, self.blur, self.solarize]).tolist()
        factors, sigma = self.factors.tolist(), self.sigma.tolist()
        blocks = []
        for first in range(0, len(applied), size):
            steps: dict[tuple[int, str], Step] = {}
            for row, (*order, grayscale, blur, solarize) in enumerate(applied[first : first + size]):
                for turn, operation in enumerate(order):
                    if operation >= 0:
                        _add(steps, turn, JITTER[operation], row, factors[first + row][operation])
                for turn, name, drawn in ((4, "grayscale", grayscale), (5, "blur", blur), (6, "solarize", solarize)):
                    if drawn:
                        _add(steps, turn, name, row, sigma[first + row])
            blocks.append([steps[key] for key in sorted(steps)])
        return blocks


def _add(steps: dict[tuple[int, str], Step], turn: int, operation: str, row: int, value: float) -> None:
    step = steps.setdefault((turn, operation), Step(operation, [], []))
    step.rows.append(row)
    step.values.append(value)


def color_draws(uniforms: NDArray[np.float64], options: Any, size: tuple[int, int]) -> ColorDraws:
    """Of samples with these numbers in [0, 1), (n, WITHOUT_ERASING) or (n, ALL), for images of (height, width).

    options: the attributes of a ColorAugment.
    """
    u = uniforms
    ranges = [getattr(options, name) for name in JITTER]
    erases = u[:, ERASING] < options.erasing
    return ColorDraws(
        jitter=u[:, APPLY_JITTER] < options.p,
        order=ORDERS[(u[:, ORDER] * len(ORDERS)).astype(np.int64)],
        factors=np.stack([_within(u[:, FACTORS + i], one) for i, one in enumerate(ranges)], axis=1),
        grayscale=u[:, GRAYSCALE] < options.grayscale,
        blur=u[:, BLUR] < options.blur,
        sigma=_within(u[:, SIGMA], options.blur_sigma),
        solarize=u[:, SOLARIZE] < options.solarize,
        boxes=_boxes(u, erases, options, size) if erases.any() else np.zeros((len(u), 4), np.int64),
    )


def _boxes(u: NDArray[np.float64], erases: NDArray[np.bool_], options: Any, size: tuple[int, int]) -> NDArray[np.int64]:
    """The first of ten rectangles that fits, as torchvision's RandomErasing has it."""
    height, width = size
    area = height * width * _within(u[:, AREAS:ALL:2], options.erasing_scale)
    low, high = options.erasing_ratio
    ratio = np.exp(_within(u[:, AREAS + 1 : ALL : 2], (float(np.log(low)), float(np.log(high)))))
    heights, widths = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
    fits = (heights < height) & (widths < width)
    first = np.arange(len(u)), fits.argmax(1)
    h, w = heights[first], widths[first]
    top, left = (np.floor(u[:, place] * room) for place, room in ((TOP, height - h + 1), (LEFT, width - w + 1)))
    boxes = np.stack([top, left, h, w], axis=1)
    boxes[~(erases & fits.any(1))] = 0
    return boxes.astype(np.int64)


def _within(u: NDArray[np.float64], bounds: Range) -> NDArray[np.float64]:
    low, high = bounds
    return np.asarray(low + (high - low) * u, np.float64)
