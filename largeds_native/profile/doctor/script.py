"""Measures the loop of a user's script: runs it for some seconds with its loaders instrumented (instrument.py)."""

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

from largeds_native.errors import ArgumentError, LargedsError
from largeds_native.profile.doctor.instrument import WARMUP
from largeds_native.profile.doctor.measurement_plan import loop_result
from largeds_native.profile.doctor.results import LoopResult, Part
from largeds_native.profile.doctor.throughput import Pass, estimate

TIMEOUT = 30  # seconds, plus six times those to measure, until a script must have run enough of its loop


@dataclass(frozen=True)
class ScriptResult:
    """loader: the name of its class. images: of an epoch. loader_rate: batches/s of the loader without the script's
    step, if it could be measured. step_seconds: a batch's step, without the wait for the batch."""

    loader: str
    images: int
    batch_size: int
    loop: LoopResult
    loader_rate: float | None
    step_seconds: float

    def parts(self) -> list[Part]:
        parts = [Part("step", "the script's step, no waiting", self.batch_size / max(self.step_seconds, 1e-9))]
        rate = self.loader_rate
        # too few batches to measure the loader alone; the step waited for it, so the loop shows its rate
        if rate is None and self.loop.waiting > 0.5:
            rate = self.loop.images_per_s / self.batch_size
        if rate:
            parts.append(Part("workers", f"the script's {self.loader} alone", rate * self.batch_size))
        return parts


def split_command(command: str) -> list[str]:
    """The script and its arguments."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ArgumentError(f"--script: {error}, found {command!r}") from None
    if not words or not os.path.isfile(words[0]):
        raise ArgumentError(f"--script: expected a Python file and its arguments, found {command!r}")
    return words


def run_script(words: list[str], seconds: float, images: int, progress: Callable[[str], object]) -> ScriptResult:
    """Runs `python *words` in the current folder, and stops it after `seconds` of its loop. `images`: of an epoch, if
    the loader does not tell."""
    with tempfile.TemporaryDirectory(prefix="largeds-doctor-") as folder:
        result, log = Path(folder) / "result.json", Path(folder) / "log"
        code = _run(words, result, log, seconds, lambda text: progress(f"{words[0]}: {text}"))
        if not result.exists():
            raise LargedsError(_failure(words[0], code, log, TIMEOUT + 6 * seconds))
        return _script_result(json.loads(result.read_text()), words[0], images)


def _run(words: list[str], result: Path, log: Path, seconds: float, progress: Callable[[str], object]) -> int | None:
    """The script's exit code; None if it had to be stopped."""
    command = [sys.executable, "-m", "largeds_native.profile.doctor.instrument", str(result), str(seconds), *words]
    package = str(Path(__file__).parents[3])
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    deadline = time.monotonic() + TIMEOUT + 6 * seconds
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,  # so that killing the group ends its workers too, and Ctrl-C reaches only us
        ) as child,
    ):
        try:
            while child.poll() is None and time.monotonic() < deadline:
                progress(f"running, {deadline - time.monotonic():.0f} s left at most")
                with suppress(subprocess.TimeoutExpired):
                    child.wait(0.2)
            return child.returncode
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)


def _failure(script: str, code: int | None, log: Path, timeout: float) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    if code is None:
        return f"{script} did not iterate a DataLoader or Loader for long enough in {timeout:.0f} s"
    last = f": {lines[-1]}" if lines else ""
    return f"{script} ended with exit code {code}{last}"


def _script_result(content: dict[str, Any], script: str, images: int) -> ScriptResult:
    """Of the loader that took the most time: that of the training."""
    loaders = [loader for loader in content["loaders"] if any(one["done"] for one in loader["passes"])]
    if not loaders:
        raise LargedsError(
            f"{script} ran to its end without iterating a torch DataLoader or a largeds_native Loader: "
            "there is no loop to watch"
        )
    loader = max(loaders, key=lambda found: sum(one["done"][-1] for one in found["passes"] if one["done"]))
    size, count = _batch_size_and_images(loader, images)
    passes = _passes(loader, size, count)
    warmup = min(WARMUP, max(0, max(len(one.done) for one in passes) - 2))
    workers = loader["workers"] or 1
    enough = sum(max(0, len(one.done) - warmup) for one in passes) >= 2 * workers
    found = estimate(passes, size, count, warmup=warmup, period=workers if enough else 1)
    loop = loop_result(f"an epoch of {script}, {loader['kind']}", found)
    step = found.batch_seconds * (1 - found.waiting)
    return ScriptResult(loader["kind"], count, size, loop, content["loader_rate"], step)


def _batch_size_and_images(loader: dict[str, Any], images: int) -> tuple[int, int]:
    """Images of a batch and of an epoch. `images` is trusted where the loader's own numbers differ by less than a
    batch: the last batch may be smaller."""
    if not loader["batches"]:
        return 1, images
    size = loader["batch_size"] or max(1, round(images / loader["batches"]))
    count = loader["batches"] * size
    return size, images if abs(count - images) < size else count


def _passes(loader: dict[str, Any], size: int, count: int) -> list[Pass]:
    passes = []
    for one in (one for one in loader["passes"] if one["done"]):
        sizes = [size] * len(one["done"])
        if one["ended"] is not None:
            sizes[-1] = (count - 1) % size + 1
        passes.append(Pass(one["done"], one["waited"], sizes, one["ended"]))
    return passes
