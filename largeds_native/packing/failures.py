"""How many samples may fail before a pack is no store."""

from __future__ import annotations

import math
from typing import Any

from largeds_native.errors import ArgumentError, PackError
from largeds_native.packing.plan import Plan
from largeds_native.store.report import Report


def checked_max_failures(value: Any) -> int | float:
    """A count (int), or a share from 0.0 to 1.0 (float)."""
    count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if not count and not (isinstance(value, float) and 0 <= value <= 1):
        raise ArgumentError(f"max_failures: expected a share from 0.0 to 1.0 or a count of images, found {value!r}")
    return value  # type: ignore[no-any-return]


def check_failures(report: Report, plan: Plan, max_failures: int | float) -> None:
    """Raises PackError where nothing was packed, or more failed than may. A share is of all samples, rounded up."""
    counts = ", ".join(f"{count:,} {reason}" for reason, count in report.failed.items())
    first = _named(report.failures[0].source, report.failures[0].error) if report.failures else "unknown"
    source = plan.source.description
    if report.packed == 0:
        raise PackError(
            f"none of the {report.total:,} images of {source} could be packed: {counts}; the first: {first}"
        )
    failed = report.total - report.packed
    allowed = max_failures if isinstance(max_failures, int) else math.ceil(max_failures * report.total)
    if failed > allowed:
        way = "the shards are kept, and the same pack" if plan.identity is not None else "a pack with resume=False and"
        raise PackError(
            f"{failed:,} of the {report.total:,} images of {source} failed, and max_failures={max_failures} allows "
            f"{allowed:,}: {counts}; the first: {first}. No store was made; {way} with max_failures={failed} makes it "
            "without them"
        )


def shape_error(name: str, message: str, plan: Plan) -> PackError:
    """Of an image that ends in another shape than the first one, where the first one says it for all."""
    height, width = plan.decoded
    return PackError(
        f"{_named(name, message)}: a store has images of one shape, and without a crop or "
        f"an exact resize that is the first image's, {height} x {width}: say crop=..., or resize=(height, width)"
    )


def _named(name: str, message: str) -> str:
    return message if name in message else f"{name}: {message}"
