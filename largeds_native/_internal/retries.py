"""Requests to object storage that are tried again, where trying again can help."""

from __future__ import annotations

import errno
import random
import re
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from largeds_native._internal.urls import scheme_of, without_credentials
from largeds_native.errors import LargedsError, MissingObjectError, StorageError

T = TypeVar("T")

ATTEMPTS = 8
FIRST_PAUSE = 0.1  # seconds; doubled after each attempt
LONGEST_PAUSE = 10.0

_REFUSED = {  # names of the errors of boto and of Google's packages
    *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"),
    *("ProfileNotFound", "UnauthorizedSSOTokenError", "SSOTokenLoadError", "DefaultCredentialsError", "RefreshError"),
}
_MISTAKES = (TypeError, AttributeError, KeyError, IndexError, NotImplementedError, AssertionError, ValueError)
_FINAL = (errno.EINVAL, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG)


class CutTransfer(OSError):
    """Fewer bytes came than were asked for."""


class Cancelled(Exception):
    """The caller's event was set: nobody waits for the result any more."""


def retried(once: Callable[[], T], name: str, cancel: threading.Event | None = None) -> T:
    """The result of `once`, called again while it fails for what may be over in a moment. `name`: of the object, for
    messages."""
    pause = FIRST_PAUSE
    for attempt in range(1, ATTEMPTS + 1):
        if cancel is not None and cancel.is_set():
            raise Cancelled
        try:
            return once()
        except LargedsError:
            raise
        except Exception as raised:
            error = _meant(raised, name)
            if (final := _final(error, name)) is not None:
                raise final from None
            if attempt == ATTEMPTS:
                raise StorageError(
                    errno.EIO, f"{name}: failed {ATTEMPTS} times, the last time by: {_said(error)}"
                ) from None
        # a random part, so that many readers that failed together do not come back together
        delay = pause * (0.5 + random.random())
        if cancel is None:
            time.sleep(delay)
        elif cancel.wait(delay):
            raise Cancelled
        pause = min(2 * pause, LONGEST_PAUSE)
    raise AssertionError("unreachable")


def _meant(error: Exception, name: str) -> Exception:
    """Over http, fsspec says of every error that the file is not found."""
    over_http = isinstance(error, FileNotFoundError) and scheme_of(name) in ("http", "https")
    return error.__cause__ if over_http and isinstance(error.__cause__, Exception) else error


def _final(error: Exception, name: str) -> LargedsError | None:
    """What to raise for an error that comes again however often one tries; None for one that may be over."""
    status = getattr(error, "status", None) or getattr(error, "code", None)
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        if re.search(r"bucket does not exist|NoSuchBucket", str(error)):
            bucket = name.split("://", 1)[-1].split("/")[0]
            return MissingObjectError(errno.ENOENT, f"{name}: there is no bucket {bucket!r}")
        return MissingObjectError(errno.ENOENT, f"{name} does not exist")
    if isinstance(error, PermissionError) or status in (401, 403):
        return StorageError(
            errno.EACCES, f"{name}: permission denied. Check the credentials, and what they allow ({_said(error)})"
        )
    if type(error).__name__ in _REFUSED:
        return StorageError(errno.EACCES, f"{name}: no credentials that work were found ({_said(error)})")
    if isinstance(error, _MISTAKES) or (isinstance(error, OSError) and error.errno in _FINAL):
        return StorageError(getattr(error, "errno", None) or errno.EIO, f"{name}: {_said(error)}")
    return None


def _said(error: Exception) -> str:
    text = without_credentials(str(error)).strip()[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
