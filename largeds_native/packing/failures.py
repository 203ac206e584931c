"""How many samples may fail before a pack is no store."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from largeds_native.errors import ArgumentError, DecodeError, PackError
from largeds_native.packing.pack_plan import Plan
from largeds_native.packing.summary import failures_of
from largeds_native.store.format.shard_record import ShardRecord
from largeds_native.store.report import Failure, Report


def checked_max_failures(value: Any) -> int | float:
    """A count (int), or a share from 0.0 to 1.0 (float)."""
    count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if not count and not (isinstance(value, float) and 0 <= value <= 1):
        raise ArgumentError(f"max_failures: expected a share from 0.0 to 1.0 or a count of images, found {value!r}")
    return value  # type: ignore[no-any-return]


def allowed_failures(max_failures: int | float, total: int) -> int:
    """A share is of all samples, rounded up. It is the number as it was written: 0.07 of 100 are 7, not a bit more."""
    return max_failures if isinstance(max_failures, int) else math.ceil(Fraction(repr(float(max_failures))) * total)


def check_failures(report: Report, plan: Plan, max_failures: int | float) -> None:
    """Raises PackError where nothing was packed, or more failed than may."""
    counts = _counts(report.failed)
    first = _first(report.failures)
    source = plan.source.description
    if report.packed == 0:
        raise PackError(
            f"none of the {report.total:,} images of {source} could be packed: {counts}; the first: {first}"
        )
    failed = report.total - report.packed
    allowed = allowed_failures(max_failures, report.total)
    if failed > allowed:
        way = "the shards are kept, and the same pack" if plan.identity is not None else "a pack with resume=False and"
        raise PackError(
            f"{failed:,} of the {report.total:,} images of {source} failed, and max_failures={max_failures} allows "
            f"{allowed:,}: {counts}; the first: {first}. No store was made; {way} with max_failures={failed} makes it "
            "without them"
        )


def check_packed_before(folder: Path, records: Iterable[ShardRecord], raise_errors: bool) -> tuple[int, int]:
    """(failed samples, all samples) of shards that an earlier run finished. With `raise_errors`, raises DecodeError for
    the first that failed."""
    failed = total = 0
    for record in records:
        total += record.samples
        failed += sum(record.failed.values())
        if failed and raise_errors:
            first = _first(failures_of(folder / record.name, 1))
            raise DecodeError(f"{first}; it failed when an earlier run packed {folder / record.name}")
    return failed, total


def check_finished(folder: Path, max_failures: int | float, raise_errors: bool) -> None:
    """Raises DecodeError or PackError where a finished store lacks more samples than may fail."""
    found = [ShardRecord.read(path) for path in sorted(folder.glob("shard-*"))]
    records = [record for record in found if record is not None]
    failed, total = check_packed_before(folder, records, raise_errors)
    allowed = allowed_failures(max_failures, total)
    if failed > allowed:
        bad = next(record for record in records if record.failed)
        raise PackError(
            f"{folder} holds the finished store of {total:,} images, of which {failed:,} failed, and "
            f"max_failures={max_failures} allows {allowed:,}: the first: {_first(failures_of(folder / bad.name, 1))}. "
            f"Mend the images and pack into another folder, or pass max_failures={failed}"
        )


def shape_error(name: str, message: str, plan: Plan) -> PackError:
    """Of an image that ends in another shape than the first one, where the first one says it for all."""
    height, width = plan.decoded
    return PackError(
        f"{_named(name, message)}: a store has images of one shape, and without a crop or "
        f"an exact resize that is the first image's, {height} x {width}: say crop=..., or resize=(height, width)"
    )


def _counts(failed: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in failed.items())


def _first(failures: Iterable[Failure]) -> str:
    first = next(iter(failures), None)
    return "unknown" if first is None else _named(first.source, first.error)


def _named(name: str, message: str) -> str:
    return message if name in message else f"{name}: {message}"
