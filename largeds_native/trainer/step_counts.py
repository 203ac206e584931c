"""Counts the steps of a Trainer. On a device, a step's numbers are read when the next one has been queued."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from largeds_native.errors import NonFiniteError
from largeds_native.trainer.accumulation import Accumulator
from largeds_native.trainer.run_progress import RunProgress
from largeds_native.trainer.schedule import Schedule
from largeds_native.trainer.step_result import StepResult
from largeds_native.trainer.totals import EpochTotals


class StepCounts:
    """What follows a step: the run's counts, the epoch's totals, and the scheduler."""

    def __init__(self, accumulator: Accumulator, progress: RunProgress, schedule: Schedule) -> None:
        self._accumulator, self._progress, self._schedule = accumulator, progress, schedule
        self._totals = EpochTotals()
        self._unread: StepResult | None = None  # of the last step, while its numbers are on the device
        self._scheduled = False  # the scheduler has had that step

    @property
    def skipped(self) -> int:
        """Number of skipped steps; waits for the last step's numbers."""
        unread = self._unread
        return self._progress.skipped + (unread is not None and not unread.stepped)

    def count(self, result: StepResult, totals: EpochTotals) -> None:
        """A step was made. Its numbers are read now if they are there, else by `read` before the next one. An error
        comes in `read` on all ranks: on one rank the numbers may be there, and the others would wait for it."""
        self._progress.step += 1
        self._progress.steps_in_epoch += 1
        self._totals = totals
        totals.count(result.samples)
        self._unread, self._scheduled = result, result.steps_or_raises
        if self._scheduled:
            self._schedule.after_step(stepped=True)
        if result.ready and (self._accumulator.ranks.world_size == 1 or not result.may_raise):
            self.read()

    def read(self) -> None:
        """The numbers of the last step; waits for them, and raises its NonFiniteError."""
        result = self._unread
        if result is None:
            return
        self._accumulator.settle()
        self._unread = None
        self._progress.skipped += not result.stepped
        self._totals.add(result)
        if not self._scheduled:
            self._schedule.after_step(stepped=result.stepped)

    def forget(self) -> None:
        """The last step is given up."""
        with contextlib.suppress(NonFiniteError):
            self._accumulator.settle()
        self._unread = None

    @contextlib.contextmanager
    def reading_at_the_end(self) -> Iterator[None]:
        """The last step's numbers are read, also when an error or Ctrl-C ends the steps. The error may come of that
        step: then that is said, and the step is not counted."""
        try:
            try:
                yield
            except BaseException as error:
                if self._unread is not None and not isinstance(error, NonFiniteError):
                    self._read_after(error)
                raise
            self.read()
        except NonFiniteError:
            if self._unread is not None:
                self._unread = None
                self._progress.step -= 1
                self._progress.steps_in_epoch -= 1
            raise

    def _read_after(self, error: BaseException) -> None:
        try:
            self.read()
        except NonFiniteError as cause:
            if isinstance(error, Exception):
                raise cause from error
        except RuntimeError:  # the device has failed, which `error` says
            self._unread = None
