"""Checks of what a manifest says: nothing in it is trusted before it passed here."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from largeds_native.errors import StoreError

RESERVED_FIELDS = ("images", "samples")
_FIELD_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")
_SHARD_NAME = re.compile(r"shard-[0-9]{5,9}")
_DTYPE_NAME = re.compile(r"bool|u?int(8|16|32|64)|float(16|32|64)|complex(64|128)|<U[0-9]{1,6}|\|S[0-9]{1,6}")


def dtype_text(dtype: np.dtype[Any]) -> str:
    """The name under which a field's dtype stands in a manifest."""
    return dtype.newbyteorder("<").str if dtype.kind in "SU" else dtype.name


def field_dtype(text: object, where: str) -> np.dtype[Any]:
    """A fixed-size dtype without Python objects, little-endian."""
    if not isinstance(text, str) or not _DTYPE_NAME.fullmatch(text) or text in ("<U0", "|S0"):
        raise StoreError(f"{where}: expected the name of a fixed-size number or string dtype, found {short(text)}")
    return np.dtype(text).newbyteorder("<")


def is_field_name(name: str) -> bool:
    return _FIELD_NAME.fullmatch(name) is not None and name not in RESERVED_FIELDS


def check_field_name(name: object, where: str) -> str:
    if not isinstance(name, str) or not is_field_name(name):
        words = f"letters, digits, '_' and '-', at most 100, and not {' or '.join(RESERVED_FIELDS)}"
        raise StoreError(f"{where}: expected a field's name ({words}), found {short(name)}")
    return name


def check_shard_name(name: object, where: str) -> str:
    if not isinstance(name, str) or not _SHARD_NAME.fullmatch(name):
        raise StoreError(f"{where}: expected a name like 'shard-00000', found {short(name)}")
    return name


def short(value: object) -> str:
    """A value for a message, cut to a readable length."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


class Reader:
    """A JSON object whose members are fetched with a check of their type and range."""

    def __init__(self, tree: object, where: str) -> None:
        if not isinstance(tree, dict):
            raise StoreError(f"{where}: expected a JSON object, found {short(tree)}")
        self.tree: dict[str, Any] = tree
        self.where = where

    def get(self, key: str) -> Any:
        if key not in self.tree:
            raise StoreError(f"{self.where}: expected the key {key!r}, found none")
        return self.tree[key]

    def child(self, key: str) -> Reader:
        return Reader(self.get(key), f"{self.where}: {key}")

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

    def sequence(self, key: str) -> list[Any]:
        value = self.get(key)
        if not isinstance(value, list):
            raise StoreError(f"{self.where}: {key}: expected a list, found {short(value)}")
        return value

    def integers(self, key: str, low: int, high: int) -> tuple[int, ...]:
        return tuple(self._integer(value, key, low, high) for value in self.sequence(key))

    def floats(self, key: str, count: int) -> tuple[float, ...]:
        values = self.sequence(key)
        if len(values) != count or not all(type(v) in (int, float) and math.isfinite(v) for v in values):
            raise StoreError(f"{self.where}: {key}: expected {count} finite numbers, found {short(values)}")
        return tuple(float(v) for v in values)

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        value = self.get(key)
        if value not in choices:
            raise StoreError(f"{self.where}: {key}: expected one of {', '.join(choices)}, found {short(value)}")
        return str(value)
