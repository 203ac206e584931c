"""Counts that are given as arguments."""

from __future__ import annotations

from typing import Any

from largeds_native.errors import ArgumentError


def check_count(name: str, value: Any) -> None:
    """ArgumentError unless this is a whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ArgumentError(f"expected {name} to be a whole number of at least 1, found {value!r}")
