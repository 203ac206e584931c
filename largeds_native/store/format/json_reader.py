"""Reads a JSON object from an untrusted file: each value is checked for its type and range."""

from __future__ import annotations

import math
from typing import Any

from largeds_native.errors import StoreError

MAX_DEPTH = 100  # nesting levels of a value whose contents are free


def short(value: object) -> str:
    """The repr of a value for a message, cut to a readable length."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _is_finite(value: object) -> bool:
    try:
        return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
    except OverflowError:  # an integer too large for a float
        return False


class JsonReader:
    """One JSON object. The StoreErrors say where the value is, what was expected, and what was found."""

    def __init__(self, tree: object, where: str) -> None:
        if not isinstance(tree, dict):
            raise StoreError(f"{where}: expected a JSON object, found {short(tree)}")
        self.tree: dict[str, Any] = tree
        self.where = where

    def get(self, key: str) -> Any:
        if key not in self.tree:
            raise StoreError(f"{self.where}: expected the key {key!r}, found none")
        return self.tree[key]

    def child(self, key: str) -> JsonReader:
        return JsonReader(self.get(key), f"{self.where}: {key}")

    def text(self, key: str, default: str) -> str:
        value = self.tree.get(key, default)
        if not isinstance(value, str):
            raise StoreError(f"{self.where}: {key}: expected text, found {short(value)}")
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        return self._integer(self.get(key), key, low, high)

    def _integer(self, value: object, key: str, low: int, high: int) -> int:
        if type(value) is not int or not low <= value <= high:
            raise StoreError(f"{self.where}: {key}: expected a whole number from {low} to {high}, found {short(value)}")
        return value

    def boolean(self, key: str) -> bool:
        value = self.get(key)
        if type(value) is not bool:
            raise StoreError(f"{self.where}: {key}: expected true or false, found {short(value)}")
        return value

    def sequence(self, key: str) -> list[Any]:
        value = self.get(key)
        if not isinstance(value, list):
            raise StoreError(f"{self.where}: {key}: expected a list, found {short(value)}")
        return value

    def integers(self, key: str, low: int, high: int) -> tuple[int, ...]:
        return tuple(self._integer(value, key, low, high) for value in self.sequence(key))

    def floats(self, key: str, count: int) -> tuple[float, ...]:
        values = self.sequence(key)
        if len(values) != count or not all(map(_is_finite, values)):
            raise StoreError(f"{self.where}: {key}: expected {count} finite numbers, found {short(values)}")
        return tuple(float(v) for v in values)

    def plain(self, key: str) -> dict[str, Any]:
        """An object with any contents that can be written back: finite numbers, limited nesting."""
        tree = self.child(key).tree
        inside = [(value, 1) for value in tree.values()]
        while inside:
            value, depth = inside.pop()
            if depth > MAX_DEPTH:
                raise StoreError(f"{self.where}: {key}: expected at most {MAX_DEPTH} levels, found more")
            if isinstance(value, float) and not math.isfinite(value):
                raise StoreError(f"{self.where}: {key}: expected finite numbers, found {value}")
            if isinstance(value, dict | list):
                members = value.values() if isinstance(value, dict) else value
                inside += [(member, depth + 1) for member in members]
        return tree

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        value = self.get(key)
        if value not in choices:
            raise StoreError(f"{self.where}: {key}: expected one of {', '.join(choices)}, found {short(value)}")
        return str(value)
