"""Measures the loop of a user's script, by running it for some seconds with instrumented loaders (instrument.py)."""

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

TIMEOUT = 30  # seconds, plus six times those to measure, within which the loop must have been measured


@dataclass(frozen=True)
class ScriptResult:
    """loader: name of the loader's class. images: number of images in an epoch. loader_rate: batches/s of the loader
    without the script's step, if it could be measured. step_seconds: a step, without the wait for its batch."""

    loader: str
    images: int
    batch_size: int
    loop: LoopResult
    loader_rate: float | None
    step_seconds: float

    def parts(self) -> list[Part]:
        parts = [Part("step", "the script's step, no waiting", self.batch_size / max(self.step_seconds, 1e-9))]
        rate = self.loader_rate
        # there were too few batches to measure the loader alone; as the step waits for it, the loop has its rate
        if rate is None and self.loop.waiting > 0.5:
            rate = self.loop.images_per_s / self.batch_size
        if rate:
            parts.append(Part("workers", f"the script's {self.loader} alone", rate * self.batch_size))
        return parts


def split_command(command: str) -> list[str]:
    """Splits a command line into the script and its arguments."""
    try:
        arguments = shlex.split(command)
    except ValueError as error:
        raise ArgumentError(f"--script: {error}, found {command!r}") from None
    if not arguments or not os.path.isfile(arguments[0]):
        raise ArgumentError(f"--script: expected a Python file and its arguments, found {command!r}")
    return arguments


def run_script(arguments: list[str], seconds: float, images: int, progress: Callable[[str], object]) -> ScriptResult:
    """Runs `python *arguments` in the current folder, and stops it after `seconds` of its loop. `images`: number of
    images in an epoch, if the loader has no length."""
    with tempfile.TemporaryDirectory(prefix="largeds-doctor-") as folder:
        result, log = Path(folder) / "result.json", Path(folder) / "log"
        code = _run(arguments, result, log, seconds, lambda text: progress(f"{arguments[0]}: {text}"))
        if not result.exists():
            raise LargedsError(_failure(arguments[0], code, log, TIMEOUT + 6 * seconds))
        return _script_result(json.loads(result.read_text()), arguments[0], images)


def _run(
    arguments: list[str], result: Path, log: Path, seconds: float, progress: Callable[[str], object]
) -> int | None:
    """Returns the script's exit code; None if it had to be killed."""
    command = [sys.executable, "-m", "largeds_native.profile.doctor.instrument", str(result), str(seconds), *arguments]
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
            start_new_session=True,  # killing the group also ends its workers; Ctrl-C reaches only this process
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
    """The result for the loader that took the most time, which is that of the training."""
    loaders = [loader for loader in content["loaders"] if any(one["done"] for one in loader["passes"])]
    if not loaders:
        raise LargedsError(
            f"{script} ran to its end without iterating a torch DataLoader or a largeds_native Loader: "
            "there is no loop to measure"
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
    """Number of images in a batch and in an epoch. The latter is `images` if the loader's own numbers differ from it by
    less than a batch, as the last batch may be smaller."""
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
