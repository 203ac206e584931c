"""`largeds doctor`"""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from largeds_native.cli import completion
from largeds_native.cli.output import console, emit_json, progress_line
from largeds_native.cli.stores import place
from largeds_native.cli.values import BATCH_SIZE, CROP, DEVICE, JSON, QUIET, RESIZE, THREADS, sizes_from


def doctor(
    target: Annotated[
        Path,
        typer.Argument(
            parser=place, metavar="TARGET", help="A store; or images to pack: a folder, .csv, .parquet or .tar files."
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            help="Name of a torchvision classifier; none: measure the data alone.", autocompletion=completion.models
        ),
    ] = "resnet18",
    script: Annotated[
        str | None, typer.Option(help="Instead of --model: your training script, with its arguments.")
    ] = None,
    batch_size: BATCH_SIZE = 64,
    resize: RESIZE = None,
    crop: CROP = None,
    device: DEVICE = None,
    seconds: Annotated[
        float, typer.Option(min=1, help="Total time; a few training steps are measured even if that takes longer.")
    ] = 25.0,
    threads: THREADS = None,
    quiet: QUIET = False,
    json: JSON = False,
) -> None:
    """Find what limits an epoch, how long it takes, how much time packing would save, and which option to change.

    \b
    Examples:
      largeds doctor train.lds
      largeds doctor photos/train --model efficientnet_b0 -b 128
      largeds doctor photos/train --script "train.py --epochs 1"
      largeds doctor train.lds --model none
      largeds doctor train.lds --json

    The speeds of memory, disk, decoding, gathering, the loader and the training step are measured separately, then the
    real training loop runs for some seconds, and its steady rate gives the time of an epoch. If the images are not
    packed, a sample of them is decoded by torchvision's transforms in DataLoader's workers, and packed into a temporary
    folder. Of images that are not packed, and of a JPEG store, raw and JPEG rows are both measured, and one is
    recommended, also by what the disk of this folder has room for. A JPEG store is measured with resized crops of
    --crop.

    With --script, your script runs unchanged in this folder until its loop is measured; then it is killed. Files that
    it writes until then are kept. It must iterate over a torch DataLoader or a largeds_native Loader.
    """
    from largeds_native._internal.machine import usable_threads
    from largeds_native._internal.measure.contention import Contention, warning
    from largeds_native.profile.classifier import build_classifier, choose_device
    from largeds_native.profile.doctor import summary
    from largeds_native.profile.doctor.config import ProfileConfig
    from largeds_native.profile.doctor.run import profile_path, profile_script
    from largeds_native.transform import ImageTransform

    transform, contention = ImageTransform(**sizes_from(resize, crop)), Contention()
    name = None if model.lower() == "none" or script is not None else model
    with progress_line(not (quiet or json)) as progress:
        config = ProfileConfig(
            batch_size,
            choose_device(device),
            threads or usable_threads(),
            make_model=None if name is None else partial(build_classifier, name),
            model=name,
            resize=transform.resize,
            crop=transform.crop,
            seconds=seconds if script is None else seconds / 2,
            progress=progress,
        )
        results = profile_path(config, target) if script is None else profile_script(config, target, script)
    if json:
        content = dataclasses.asdict(results) | summary.summary(results) | {"others_share": contention.share()}
        emit_json(content)
        return
    if not quiet:
        console().print(summary.table(results))
    print(summary.sentence(results))
    print(summary.advice(results))
    if choice := summary.rows_sentence(results):
        print(choice)
    if disturbed := warning(contention.share()):
        print(disturbed)
