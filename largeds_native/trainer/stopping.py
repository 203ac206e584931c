"""Stopping at a signal between two steps, as a cluster asks before it takes the machine away."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Any

from largeds_native.errors import ArgumentError
from largeds_native.trainer.ranks import Ranks

EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: try again later


class StoppedBySignal(SystemExit):
    """The run was saved and stopped, as SIGTERM asked. Uncaught, it ends the process with exit code 75."""

    def __init__(self) -> None:
        super().__init__(EXIT_CODE)


class SignalWatch:
    """While it is entered, SIGTERM is remembered instead of ending the process; then the old handler is put back.

    Not `wanted`: nothing is done, and the ranks exchange nothing.
    """

    def __init__(self, ranks: Ranks, wanted: bool) -> None:
        self._ranks, self._wanted = ranks, wanted
        self._came = False
        self._before: Any = None

    def __enter__(self) -> SignalWatch:
        if self._wanted:
            self._came = False
            try:
                self._before = signal.signal(signal.SIGTERM, self._remember)
            except ValueError:
                raise ArgumentError("stop_on_signal: fit must run in the process's main thread") from None
        return self

    def __exit__(self, *_: object) -> None:
        if self._wanted:
            signal.signal(signal.SIGTERM, signal.SIG_DFL if self._before is None else self._before)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self._came = True

    def came(self) -> bool:
        """Whether SIGTERM came to any rank: all ranks ask at the same moment, and hear the same."""
        return self._wanted and bool(self._ranks.max(float(self._came))[0])

    def stop(self, step: int, folder: object) -> None:
        """Raises StoppedBySignal, after one line on stderr."""
        if self._ranks.rank == 0:
            print(
                f"stopped by SIGTERM after step {step}, saved in {folder}: the same command goes on from there "
                f"(exit code {EXIT_CODE})",
                file=sys.stderr,
                flush=True,
            )
        raise StoppedBySignal
