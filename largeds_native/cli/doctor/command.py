"""`largeds doctor`"""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from largeds_native.cli.output import console, emit_json, noted
from largeds_native.cli.values import BATCH_SIZE, DEVICE, JSON, QUIET, THREADS, side_or_size

if TYPE_CHECKING:
    from largeds_native.cli.doctor.examine import Question
    from largeds_native.cli.doctor.findings import Findings


def doctor(
    target: Annotated[Path, typer.Argument(help="A store; or images to pack: a folder, .csv, .parquet or .tar.")],
    model: Annotated[
        str, typer.Option(help="A classifier of torchvision, by name; none: look at the data alone.")
    ] = "resnet18",
    script: Annotated[
        str | None, typer.Option(help="Instead of --model: your training script, with its arguments.")
    ] = None,
    batch_size: BATCH_SIZE = 64,
    resize: Annotated[str, typer.Option(help="Of images to pack: a side, height x width, or none.")] = "256",
    crop: Annotated[str, typer.Option(help="Of images to pack: a side, height x width, or none.")] = "224",
    device: DEVICE = None,
    seconds: Annotated[
        float, typer.Option(min=1, help="For all of it; at least some training steps are waited for.")
    ] = 25.0,
    threads: THREADS = None,
    quiet: QUIET = False,
    json: JSON = False,
) -> None:
    """Say what limits an epoch, what it will take, what packing would save, and which option to change.

    \b
    Examples:
      largeds doctor train.lds
      largeds doctor photos/train --model efficientnet_b0 -b 128
      largeds doctor photos/train --script "train.py --epochs 1"
      largeds doctor train.lds --model none
      largeds doctor train.lds --json

    Memory, disk, decoding, gathering, the loader and the training step are measured alone, then the true loop, with all
    of them at once, for some seconds: an epoch follows from its steady rate. Of images that are not packed, a sample is
    decoded by torchvision's transforms in DataLoader's workers, and packed into the temporary folder.

    With --script your script runs as it is, in this folder, until its loop has been watched; then it is killed. What it
    writes until then is written. It must iterate a torch DataLoader or a largeds_native Loader.
    """
    from largeds_native.cli.doctor import verdict

    with noted(not (quiet or json)) as note:
        findings = _examined(target, model, script, batch_size, resize, crop, device, seconds, threads, note)
    if json:
        emit_json(_plain(dataclasses.asdict(findings) | verdict.summary(findings)))
        return
    if not quiet:
        console().print(verdict.table(findings))
    print(verdict.sentence(findings))
    print(verdict.advice(findings))


def _examined(
    target: Path,
    model: str,
    script: str | None,
    batch_size: int,
    resize: str,
    crop: str,
    device: str | None,
    seconds: float,
    threads: int | None,
    note: Any,
) -> Findings:
    from largeds_native._internal.machine import usable_threads
    from largeds_native.cli import training
    from largeds_native.cli.doctor.examine import Question

    name = None if model.lower() == "none" or script is not None else model
    question = Question(
        batch_size,
        training.chosen_device(device),
        threads or usable_threads(),
        None if name is None else lambda classes, store: training.build(name, classes, store),
        name,
        side_or_size(resize),
        side_or_size(crop),
        seconds if script is None else seconds / 2,
        note,
    )
    if script is None:
        return _of_target(question, target)
    return _of_script(question, target, script)


def _of_target(question: Question, target: Path) -> Findings:
    import largeds_native as lds
    from largeds_native.cli.doctor.examine import examine_source, examine_store
    from largeds_native.errors import PackError
    from largeds_native.sources import as_source
    from largeds_native.store.format.manifest import NAME

    if not os.path.exists(target):
        raise PackError(f"{target} does not exist: expected a store, or images to pack")
    if (target / NAME).exists() or target.suffix in (".h5", ".hdf5", ".npy"):
        with lds.open(target) as store:
            return examine_store(question, store)
    question.note("listing the images")
    return examine_source(question, as_source(target), str(target))


def _of_script(question: Question, target: Path, script: str) -> Findings:
    """The script's own loop stands for today's; the Loader's speed is that of the target."""
    from largeds_native.cli.doctor.script import run_script, words_of

    words = words_of(script)
    findings = _of_target(question, target)
    watched = run_script(words, question.seconds, findings.images, question.note)
    findings.script, findings.today = script, watched.loop
    findings.images, findings.batch_size = watched.images, watched.batch_size
    findings.parts = [part for part in findings.parts if part.kind != "workers"] + watched.parts()
    assert findings.packed is not None
    # the step, and on the CPU the loader beside it, on the same processors
    loader = watched.batch_size / findings.packed.images_per_s
    batch = watched.step_seconds + loader if question.device.type == "cpu" else max(watched.step_seconds, loader)
    rate = watched.batch_size / batch
    findings.packed = dataclasses.replace(
        findings.packed,
        name="an epoch of the script with lds.Loader, about",
        images_per_s=rate,
        epoch_seconds=findings.images / rate,
        spread=math.nan,
        waiting=0.0,
    )
    return findings


def _plain(content: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(content, dict):
        return {key: _plain(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_plain(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
