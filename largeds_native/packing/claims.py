"""Which process packs which shard, told by the temporary folders of unfinished shards.

Processes on several machines may pack into one folder. None of them locks anything, as not every network file system
has locks: a process claims a shard by the temporary folder in which it writes it, and the others take another shard
meanwhile. Two processes that claim the same shard at the same moment both pack it; the bytes are the same, and the
first rename wins. So a claim only saves work.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import socket
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from largeds_native.store.format.shard_record import shard_name

FOLDER = ".pack"  # of all temporary files of an unfinished pack
ABANDONED_AFTER = 120.0  # seconds without a sign of life; network file systems show times up to a minute late
TOUCH_EVERY = 5.0
_CLAIM = re.compile(r"shard-(?P<number>\d{5,9})\.(?P<host>[\w-]*)\.(?P<pid>\d+)(_(?P<start>\d+))?\.[0-9a-f]{8}")


@dataclass(frozen=True)
class Claim:
    """The temporary folder `path` of shard `number`, which process `pid` of `host` writes. `start`: when that process
    began, by which it is known from a later one of the same number."""

    path: Path
    number: int
    host: str
    pid: int
    start: int = 0

    def __str__(self) -> str:
        return f"process {self.pid}" + ("" if self.host == _host() else f" on {self.host.rpartition('-')[0]}")

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


class Claims:
    """Those in the output folder of a pack. `claim` makes one for this run."""

    def __init__(self, out: Path) -> None:
        self._folder = out / FOLDER
        self._ours: list[Claim] = []
        self._touched = time.monotonic()

    def claim(self, number: int) -> Claim | None:
        """Claims a shard; None if another run has done so, which is alive."""
        if any(other.number == number for other in self.of_others()):
            return None
        ours = self.take(number)
        if any(other.number == number and other.path.name < ours.path.name for other in self.of_others()):
            ours.remove()  # of two at the same moment, the one whose name comes first goes on
            return None
        return ours

    def take(self, number: int) -> Claim:
        """Claims a shard, whoever else has."""
        process = f"{os.getpid()}_{_start_of(os.getpid())}"
        path = self._folder / f"{shard_name(number)}.{_host()}.{process}.{secrets.token_hex(4)}"
        path.mkdir(parents=True)
        ours = Claim(path, number, _host(), os.getpid())
        self._ours = [one for one in self._ours if one.path.exists()] + [ours]
        return ours

    def touch(self) -> None:
        """Gives a sign of life for each claim of this run, at most every few seconds. It is the file system's clock
        that counts, as those of the machines may differ."""
        if time.monotonic() - self._touched > TOUCH_EVERY:
            self._touched = time.monotonic()
            for one in self._ours:
                with contextlib.suppress(OSError):  # it is finished, or was taken for abandoned
                    os.utime(one.path)

    def release(self) -> None:
        """Removes those of this run whose shards are not finished."""
        for one in self._ours:
            one.remove()

    def of_others(self) -> list[Claim]:
        """The claims of other runs that are alive."""
        found = self._all_of_others()
        now = self._now() if found else 0.0
        return [one for one in found if _is_alive(one, now)]

    def remove_abandoned(self) -> None:
        """Removes what runs left that ended in the middle."""
        found = self._all_of_others()
        now = self._now() if found else 0.0
        for one in found:
            if not _is_alive(one, now):
                one.remove()

    def _all_of_others(self) -> list[Claim]:
        try:
            names = sorted(os.listdir(self._folder))
        except FileNotFoundError:
            return []
        ours = {one.path.name for one in self._ours}
        matches = [_CLAIM.fullmatch(name) for name in names if name not in ours]
        return [
            Claim(
                self._folder / found[0],
                int(found["number"]),
                found["host"],
                int(found["pid"]),
                int(found["start"] or 0),
            )
            for found in matches
            if found is not None
        ]

    def _now(self) -> float:
        """By the clock of the file system."""
        try:
            with tempfile.TemporaryFile(dir=self._folder) as file:
                return os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:  # another run finished the store meanwhile
            return time.time()


def _is_alive(one: Claim, now: float) -> bool:
    """Whether the process of a claim runs; on another machine, whether it gave a sign of life lately."""
    if one.host == _host() and one.start:
        return _start_of(one.pid) == one.start and one.path.exists()
    try:
        return now - os.stat(one.path).st_mtime < ABANDONED_AFTER
    except OSError:
        return False


def _start_of(pid: int) -> int:
    """When a process began, in ticks since the machine did; 0 if there is none."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


@cache
def _host() -> str:
    """The machine's name, and the number of the namespace of its processes: containers may share the name."""
    name = re.sub(r"[^\w-]", "-", socket.gethostname(), flags=re.ASCII)[:60]
    try:
        return f"{name}-{os.stat('/proc/self/ns/pid').st_ino:x}"
    except OSError:
        return f"{name}-0"
