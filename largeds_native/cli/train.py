"""`largeds train`"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from largeds_native.cli.completion import models
from largeds_native.cli.output import emit_json, print_pairs
from largeds_native.cli.stores import CACHE, CACHE_BYTES, place
from largeds_native.cli.values import BATCH_SIZE, DEVICE, JSON, QUIET, SEED, THREADS


class PrecisionName(str, Enum):
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


def train(
    store: Annotated[
        Path,
        typer.Argument(
            parser=place,
            metavar="STORE",
            help="The store to train on, or its URL, with class numbers in its field label.",
        ),
    ],
    model: Annotated[str, typer.Option(help="Name of a torchvision classifier.", autocompletion=models)] = "resnet18",
    epochs: Annotated[
        int, typer.Option("--epochs", "-e", min=1, help="Total number of epochs, including those before a resume.")
    ] = 10,
    batch_size: BATCH_SIZE = 64,
    accumulate: Annotated[int, typer.Option(min=1, help="Batches per optimizer step.")] = 1,
    micro_batch: Annotated[
        str | None, typer.Option(help="Images per forward; auto: halved when memory runs out.")
    ] = None,
    lr: Annotated[float, typer.Option(help="Initial learning rate; it falls to 0 along a cosine.")] = 1e-3,
    weight_decay: Annotated[float, typer.Option(min=0, help="Weight decay of AdamW.")] = 1e-2,
    precision: Annotated[PrecisionName, typer.Option(help="Precision of forward and backward.")] = PrecisionName.fp32,
    augment: Annotated[
        bool, typer.Option(help="Augment: shift by up to an eighth of the side, of JPEG rows a resized crop; and flip.")
    ] = True,
    val: Annotated[
        Path | None,
        typer.Option(parser=place, metavar="STORE", help="A store for validation, or its URL, with the same classes."),
    ] = None,
    cache: CACHE = None,
    cache_bytes: CACHE_BYTES = None,
    val_split: Annotated[
        float,
        typer.Option(
            min=0, max=0.9, help="Without --val: hold out this share of STORE for validation; 0: no validation."
        ),
    ] = 0.1,
    checkpoint_dir: Annotated[
        Path | None, typer.Option(help="Folder for checkpoints, written after each epoch: the last two, and best.pt.")
    ] = None,
    checkpoint_every: Annotated[
        int | None, typer.Option(min=1, help="Also write one every so many optimizer steps; needs --checkpoint-dir.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Continue from the newest checkpoint.")] = True,
    stop_on_signal: Annotated[
        bool,
        typer.Option("--stop-on-signal", help="At SIGTERM, save after the step and stop; needs --checkpoint-dir."),
    ] = False,
    device: DEVICE = None,
    seed: SEED = 0,
    threads: THREADS = None,
    quiet: QUIET = False,
    json: JSON = False,
) -> None:
    """Train a torchvision classifier on a store. Copy largeds_native/cli/training.py as a start for your own script.

    \b
    Examples:
      largeds train train.lds
      largeds train train.lds --model efficientnet_b0 --epochs 30 --val val.lds
      largeds train train.lds -b 64 --accumulate 4 --micro-batch auto --precision bf16
      largeds train train.lds --checkpoint-dir runs/one --checkpoint-every 500
      largeds train train.lds --checkpoint-dir runs/one --stop-on-signal
      largeds train train.lds --epochs 1 --json

    Images of a JPEG store are cropped to 224 x 224, or to their own size if they are smaller.

    With --checkpoint-dir, the same command continues an interrupted run from its newest checkpoint, with the same
    result as without interruption.
    With --stop-on-signal, SIGTERM (from Slurm, or before preemption) costs no step: the exit code is 75.
    """
    from largeds_native.cli.training import TrainingConfig, train_classifier

    if stop_on_signal and checkpoint_dir is None:
        raise typer.BadParameter("--stop-on-signal saves the run before it stops: give --checkpoint-dir, too")
    if checkpoint_every is not None and checkpoint_dir is None:
        raise typer.BadParameter("--checkpoint-every: give --checkpoint-dir, the folder for them, too")
    config = TrainingConfig(
        store=store,
        model=model,
        epochs=epochs,
        batch_size=batch_size,
        accumulate=accumulate,
        micro_batch=_micro_batch(micro_batch),
        lr=lr,
        weight_decay=weight_decay,
        precision=precision.value,
        augment=augment,
        val=val,
        cache=cache,
        cache_bytes=cache_bytes,
        val_split=val_split,
        checkpoint_dir=checkpoint_dir,
        checkpoint_every=checkpoint_every,
        resume=resume,
        stop_on_signal=stop_on_signal,
        device=device,
        seed=seed,
        threads=threads,
        progress=not (quiet or json),
    )
    try:
        result = train_classifier(config)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; {_what_is_left(checkpoint_dir)}") from None
    if json:
        emit_json(result)
    elif not quiet:
        print_pairs(_human_readable(result))


def _what_is_left(checkpoint_dir: Path | None) -> str:
    """Of an interrupted run."""
    if checkpoint_dir is None:
        return "nothing was saved: that needs --checkpoint-dir"
    newest = max(checkpoint_dir.glob("step-*.pt"), default=None)
    if newest is None:
        return f"no checkpoint was written to {checkpoint_dir} yet"
    return f"the same command continues from {newest}"


def _micro_batch(text: str | None) -> int | str | None:
    if text is None or text == "auto":
        return text
    if not text.isdecimal() or int(text) == 0:
        raise typer.BadParameter(f"--micro-batch: expected a number of images or auto, found {text!r}")
    return int(text)


def _human_readable(result: dict[str, Any]) -> dict[str, object]:
    last = result["history"][-1] if result["history"] else {}
    lines: dict[str, object] = {
        "model": f"{result['model']}, {result['parameters']:,} parameters",
        "images": f"{result['images']:,} to train on, {result['held_out']:,} held out",
        "epochs": f"{len(result['history'])}, {result['steps']:,} steps",
    }
    lines |= {
        name.replace("_", " "): f"{value:.4g}" for name, value in last.items() if name.endswith(("loss", "accuracy"))
    }
    lines["speed"] = (
        f"{last.get('images_per_s', 0):,.0f} images/s, {last.get('data_share', 0):.0%} of it waiting for data"
    )
    if result["checkpoints"]:
        lines["checkpoints"] = result["checkpoints"]
    return lines
