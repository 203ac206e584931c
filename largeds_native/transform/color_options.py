"""The numbers among the options of ColorAugment, checked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

from largeds_native.errors import ArgumentError
from largeds_native.transform.color_draws import Range

MAX_FACTOR = 1e6  # of the jitter: products of larger ones with pixels may leave float32, and become NaN


def number_of(value: Any) -> float | None:
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value) else None


def share(name: str, value: Any, what: str) -> float:
    number = number_of(value)
    if number is None or not 0 <= number <= 1:
        raise ArgumentError(f"{name}: expected {what}, from 0 to 1, found {value!r}")
    return number


def factors(name: str, value: Any, center: float) -> Range:
    """The range of a factor of the jitter; a number is the distance of its ends from `center`."""
    low, high = (-0.5, 0.5) if name == "hue" else (0.0, MAX_FACTOR)
    number = number_of(value)
    if number is None:
        return range_of(name, value, low, high, "a number or ")
    if not 0 <= number <= high:
        raise ArgumentError(f"{name}: expected a number {_bounds(0.0, high)}, or (low, high), found {value!r}")
    return max(center - number, low), min(center + number, high)


def range_of(name: str, value: Any, least: float, most: float, other: str = "") -> Range:
    ends = [number_of(end) for end in value] if isinstance(value, (tuple, list)) else []
    low, high = ends if len(ends) == 2 else (None, None)
    if low is None or high is None or not least <= low <= high <= most:
        raise ArgumentError(
            f"{name}: expected {other}(low, high), low <= high, {_bounds(least, most)}, found {value!r}"
        )
    return low, high


def _bounds(low: float, high: float) -> str:
    return "above 0" if high == math.inf else f"from {low:g} to {high:g}"


def erased_values(value: Any) -> float | tuple[float, ...]:
    one_each = isinstance(value, Sequence) and not isinstance(value, str)
    numbers = [number_of(one) for one in value] if one_each else [number_of(value)]
    valid = [number for number in numbers if number is not None and 0 <= number <= 1]
    if not numbers or len(valid) != len(numbers):
        raise ArgumentError(f"erasing_value: expected numbers in [0, 1] units, one or one per channel, found {value!r}")
    return tuple(valid) if one_each else valid[0]
