"""All of a run that a resume needs: taken from a Trainer, put back into one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from largeds_native.errors import ArgumentError, StateError
from largeds_native.trainer import checkpoint
from largeds_native.trainer.ranks import unwrap

if TYPE_CHECKING:
    from largeds_native.trainer.trainer import Trainer


def capture(trainer: Trainer) -> dict[str, Any]:
    """Everything of the run, as tensors and plain values."""
    scaler, position, totals = trainer.precision.scaler, trainer.position, trainer.totals
    own = {
        "position": None if position is None else position.state_dict(between_epochs=not trainer.in_epoch),
        "sums": [totals.loss, totals.weight, totals.samples],
        "metrics": trainer.train_metrics.state_dict(),
    }
    return {
        "model": unwrap(trainer.model).state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "scheduler": None if trainer.scheduler is None else trainer.scheduler.state_dict(),
        "scaler": None if scaler is None else scaler.state_dict(),
        "accumulator": trainer.accumulator.state_dict(),
        "callbacks": [[type(callback).__name__, callback.state_dict()] for callback in trainer.callbacks],
        "counters": [trainer.epoch, trainer.step, trainer.steps_in_epoch, trainer.skipped, trainer.in_epoch],
        "history": trainer.history,
        "best": trainer.best.value,
        "classes": _classes(trainer),
        "ranks": trainer.ranks.gather(own),
    }


def restore(trainer: Trainer, state: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Go on from `state_dict()`; StateError, before anything is changed, if it belongs to another run."""
    model, scaler, totals = unwrap(trainer.model), trainer.precision.scaler, trainer.totals
    checkpoint.check_model(model, state["model"], path)
    if len(state["ranks"]) != trainer.ranks.world_size:
        raise StateError(f"{path}: saved by {len(state['ranks'])} processes, there are {trainer.ranks.world_size}")
    for name, found in state["classes"].items():
        if found != (expected := _classes(trainer)[name]):
            raise StateError(f"{path}: a checkpoint of another {name}: expected {expected}, found {found}")
    try:
        trainer.optimizer.load_state_dict(state["optimizer"])
    except ValueError as error:
        raise StateError(f"{path}: a checkpoint of another optimizer: {error}") from error
    model.load_state_dict(state["model"])
    if trainer.scheduler is not None:
        trainer.scheduler.load_state_dict(state["scheduler"])
    if scaler is not None:
        scaler.load_state_dict(state["scaler"])
    trainer.accumulator.load_state_dict(state["accumulator"])
    trainer.epoch, trainer.step, trainer.steps_in_epoch, trainer.skipped, trainer.in_epoch = state["counters"]
    trainer.history, trainer.best.value = list(state["history"]), state["best"]
    saved = list(state["callbacks"])
    for callback in trainer.callbacks:
        found = next((item for item in saved if item[0] == type(callback).__name__), None)
        if found is not None:
            saved.remove(found)
            callback.load_state_dict(found[1])
    own = state["ranks"][trainer.ranks.rank]
    totals.loss, totals.weight, totals.samples = own["sums"]
    trainer.train_metrics.load_state_dict(own["metrics"])
    if trainer.position is not None and own["position"] is not None:
        trainer.position.load_state_dict(own["position"], between_epochs=not trainer.in_epoch)


def _classes(trainer: Trainer) -> dict[str, str]:
    """What kind of object each part's state belongs to."""
    parts = {"optimizer": trainer.optimizer, "scheduler": trainer.scheduler, "scaler": trainer.precision.scaler}
    return {name: "none" if part is None else type(part).__name__ for name, part in parts.items()}


def resume(trainer: Trainer, source: str | os.PathLike[str] | None) -> None:
    """Before a fit: go on from `source` ("auto": the newest whole checkpoint), or make sure that none is mixed in."""
    if source is None or (source == "auto" and trainer.step):
        if trainer.checkpoints is not None and not trainer.step and trainer.checkpoints.files():
            raise ArgumentError(f"{trainer.checkpoints.folder} has checkpoints of another run: resume it, or empty it")
        return
    if source != "auto":
        trainer.load_state_dict(checkpoint.read(source), source)
    elif trainer.checkpoints is not None:
        newest = trainer.checkpoints.newest()
        path = None if newest is None else str(newest[0])
        if trainer.ranks.first(path) != path:
            raise StateError(f"the ranks see different checkpoints in {trainer.checkpoints.folder}: {path} here")
        if newest is not None:
            trainer.load_state_dict(newest[1], newest[0])
