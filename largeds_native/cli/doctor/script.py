"""The user's own script, run for some seconds with its loaders watched; see watched.py for what happens inside."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from largeds_native.cli.doctor.findings import Loop, Part
from largeds_native.cli.doctor.steady import Pass, estimate
from largeds_native.cli.doctor.watched import START_UP
from largeds_native.errors import ArgumentError, LargedsError

PATIENCE = 30  # seconds, and six times those to watch, until a script has been through enough of its loop


@dataclass(frozen=True)
class Watched:
    """loader: its class's name. images: of an epoch. alone: batches/s of the loader without the
    script's step, where that could be seen.
    step_seconds: a batch, without waiting for it."""

    loader: str
    images: int
    batch_size: int
    loop: Loop
    alone: float | None
    step_seconds: float

    def parts(self) -> list[Part]:
        found = [Part("step", "the script's step, no waiting", self.batch_size / max(self.step_seconds, 1e-9))]
        alone = self.alone
        if alone is None and self.loop.waiting > 0.5:  # too few batches to tell; they were waited for, and so
            alone = self.loop.images_per_s / self.batch_size
        if alone:
            found.append(Part("workers", f"the script's {self.loader} alone", alone * self.batch_size))
        return found


def words_of(command: str) -> list[str]:
    """The script and its arguments."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ArgumentError(f"--script: {error}, found {command!r}") from None
    if not words or not os.path.isfile(words[0]):
        raise ArgumentError(f"--script: expected a Python file and its arguments, found {command!r}")
    return words


def run_script(words: list[str], seconds: float, images: int, note: Callable[[str], object]) -> Watched:
    """Runs `python *words` where we are, and stops it when its loop has been watched for `seconds`. `images`: how many
    there are, where the loader does not tell."""
    with tempfile.TemporaryDirectory(prefix="largeds-doctor-") as folder:
        result, log = Path(folder) / "result.json", Path(folder) / "log"
        code = _run(words, result, log, seconds, lambda text: note(f"{words[0]}: {text}"))
        if not result.exists():
            raise LargedsError(_why(words[0], code, log, PATIENCE + 6 * seconds))
        return _understood(json.loads(result.read_text()), words[0], images)


def _run(words: list[str], result: Path, log: Path, seconds: float, note: Callable[[str], object]) -> int | None:
    """The exit code; None where it had to be stopped."""
    command = [sys.executable, "-m", "largeds_native.cli.doctor.watched", str(result), str(seconds), *words]
    package = str(Path(__file__).parents[3])
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    deadline = time.monotonic() + PATIENCE + 6 * seconds
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,  # its workers end with it, and Ctrl-C reaches it through us alone
        ) as child,
    ):
        try:
            while child.poll() is None and time.monotonic() < deadline:
                note(f"running, {deadline - time.monotonic():.0f} s left at most")
                with suppress(subprocess.TimeoutExpired):
                    child.wait(0.2)
            return child.returncode
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)


def _why(script: str, code: int | None, log: Path, patience: float) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    if code is None:
        return f"{script} did not iterate a DataLoader or Loader for long enough in {patience:.0f} s"
    last = f": {lines[-1]}" if lines else ""
    return f"{script} ended with exit code {code}{last}"


def _understood(content: dict[str, Any], script: str, images: int) -> Watched:
    """Of all loaders, the one that most time was spent with: that of the training."""
    loaders = [loader for loader in content["loaders"] if any(one["done"] for one in loader["passes"])]
    if not loaders:
        raise LargedsError(
            f"{script} ran to its end without iterating a torch DataLoader or a largeds_native Loader: "
            "there is no loop to watch"
        )
    loader = max(loaders, key=lambda found: sum(one["done"][-1] for one in found["passes"] if one["done"]))
    size = loader["batch_size"] or max(1, round(images / loader["batches"])) if loader["batches"] else 1
    count = loader["batches"] * size if loader["batches"] else images
    count = images if abs(count - images) < size else count
    full = []
    for one in (one for one in loader["passes"] if one["done"]):
        sizes = [size] * len(one["done"])
        if one["ended"] is not None:
            sizes[-1] = (count - 1) % size + 1
        full.append(Pass(one["done"], one["waited"], sizes, one["ended"]))
    warmup = min(START_UP, max(0, max(len(one.done) for one in full) - 2))
    workers = loader["workers"] or 1
    enough = sum(max(0, len(one.done) - warmup) for one in full) >= 2 * workers
    found = estimate(full, size, count, warmup=warmup, period=workers if enough else 1)
    name = f"an epoch of {script}, {loader['kind']}"
    loop = Loop(name, found.images_per_s, found.start_seconds, found.epoch_seconds, found.spread, found.waiting)
    step = found.batch_seconds * (1 - found.waiting)
    return Watched(loader["kind"], count, size, loop, content["alone"], step)
