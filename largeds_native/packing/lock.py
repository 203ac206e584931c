"""A lock that allows only one pack at a time to write to a folder."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from largeds_native.errors import PackError

NAME = ".pack.lock"
POLL_SECONDS = 0.2


class FolderLock:
    """Held until `release`, or until the process ends for any reason.

    wait: waits while another process holds it, instead of raising PackError.
    """

    def __init__(self, folder: Path, wait: bool = False) -> None:
        self._path = folder / NAME
        while True:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = os.read(self._descriptor, 20).decode("ascii", "replace").strip()
                os.close(self._descriptor)
                if wait:
                    time.sleep(POLL_SECONDS)  # not in flock, which can't be interrupted on every file system
                    continue
                raise PackError(
                    f"another process ({owner or 'unknown'}) is packing into {folder}; wait=True (--wait) waits for it"
                ) from None
            if self._is_current():
                break
            os.close(self._descriptor)  # its previous owner removed the file between our open and our lock
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, str(os.getpid()).encode())

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._descriptor))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Removes the lock's file, so that the folder of a finished store holds only the store, and unlocks."""
        if self._descriptor >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1
