"""What can go wrong, as exceptions. Every one is a `LargedsError`; those for bad input are `ValueError` too."""

from __future__ import annotations


class LargedsError(Exception):
    """Base class of all errors that largeds_native raises itself."""


class ArgumentError(LargedsError, ValueError):
    """An argument is wrong; the message says what was expected and what was found."""


class RowIndexError(LargedsError, IndexError):
    """A row number outside the store."""


class StorageError(LargedsError, OSError):
    """The operating system refused: a file can't be opened, read, mapped, or its space reserved."""


class DecodeError(LargedsError, ValueError):
    """An image can't be decoded or does not fit; the message names it and says why."""


class StoreError(LargedsError, ValueError):
    """A store is short, foreign, damaged, or of a version that this release does not read."""


class PackError(LargedsError):
    """A pack can't start or go on; the message says what to do."""


class StateError(LargedsError, ValueError):
    """A saved state belongs to another store, loader, model or version."""


class NonFiniteError(LargedsError, ArithmeticError):
    """A loss or a gradient is infinite or not a number; the message names the step and the samples."""
