"""The exceptions of the package. All are subclasses of `LargedsError`; those for bad input also of `ValueError`."""

from __future__ import annotations


class LargedsError(Exception):
    """Base class of all errors that largeds_native raises."""


class ArgumentError(LargedsError, ValueError):
    """An argument is invalid; the message says what was expected and what was found."""


class RowIndexError(LargedsError, IndexError):
    """A row number is outside of the store."""


class StorageError(LargedsError, OSError):
    """The operating system reports an error: a file can't be opened, read, mapped or written, or the disk is full."""


class MissingObjectError(StorageError, FileNotFoundError):
    """There is no such object, or no such bucket, in object storage."""


class DecodeError(LargedsError, ValueError):
    """An image can't be decoded or has the wrong size; the message names it and says why."""


class StoreError(LargedsError, ValueError):
    """A file or folder is not a store, or the store is incomplete, damaged, or of an unsupported version."""


class PackError(LargedsError):
    """A pack can't start or continue; the message says what to do."""


class StateError(LargedsError, ValueError):
    """A saved state belongs to another store, loader, model or version."""


class DeviceError(LargedsError, RuntimeError):
    """A device failed, as a GPU that is lost; the message has its words, and says what to do."""


class NonFiniteError(LargedsError, ArithmeticError):
    """A loss or a gradient is infinite or not a number; the message names the step and the samples."""
