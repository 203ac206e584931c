"""The training loop. Read `_train_epoch` first: all else serves it.

What it leans on lives beside it: the accumulation of gradients (accumulation.py), going back after a lack of memory
(memory.py), checkpoints (checkpoint.py), the place in the loader (position.py), and callbacks, each in its file.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from largeds_native.errors import ArgumentError, StateError
from largeds_native.trainer import batches, checkpoint
from largeds_native.trainer.accumulation import Accumulator, Group
from largeds_native.trainer.callbacks import Callback
from largeds_native.trainer.memory import Snapshot, is_out_of_memory
from largeds_native.trainer.metrics import Metrics
from largeds_native.trainer.position import Position
from largeds_native.trainer.precision import Precision
from largeds_native.trainer.progress import ProgressBar
from largeds_native.trainer.ranks import Ranks, find_ddp, unwrap
from largeds_native.trainer.weights import Loss, Weight, reduction_of, weight_of


class Trainer:
    """Trains a model with exact gradient accumulation, and resumes bit-identically.

    Args:
        model: any module; `torch.compile`d and DistributedDataParallel ones too. With several processes
            (`torch.distributed` initialised) a plain module is wrapped.
        optimizer: over the model's parameters.
        loss: `loss(outputs, targets)`, one number; its `reduction` ("mean" or "sum") is heeded.
        accumulate: loader batches in one optimizer step.
        micro_batch: samples that go through the model at once: each loader batch is cut into views of this size.
            "auto" begins with the whole batch, and after a lack of memory repeats the step with half; it keeps the
            batches of a step until the step is done. Results do not depend on when the memory ran out.
        precision: "fp32", "bf16" or "fp16" (autocast; fp16 with a GradScaler).
        scheduler: a learning rate scheduler, stepped each epoch, or each step with `scheduler_by="step"`.
        clip_grad_norm: the largest norm of a step's gradient.
        device: where batches go; None: where the model is.
        checkpoint_dir: folder of checkpoints: one each epoch, and each `checkpoint_every` steps. The last `keep_last`
            and the best by `monitor` ("min" or "max" of it, `monitor_mode`) are kept.
        metrics: name -> torchmetrics object, or function of (outputs, targets) giving a micro-batch's mean.
        progress: show a bar on a terminal, one line an epoch elsewhere.
        weight: `weight(inputs, targets)`: the denominator of a mean loss that is not the number of samples (tokens, a
            mask). Known already for CrossEntropyLoss and NLLLoss with class weights or `ignore_index`.
        on_nonfinite: "raise" NonFiniteError, or "skip" the step, when a loss or gradient is infinite or NaN.
        callbacks: see callbacks.py; EMA, EarlyStopping, Freeze, CSVLogger, TensorBoardLogger are there.

    Attributes: `epoch` (epochs done), `step` (optimizer steps taken), `history` (each epoch's numbers), `skipped`.

    Raises:
        ArgumentError: for an argument that makes no sense; StateError: a checkpoint of another model or run.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        loss: Loss,
        *,
        accumulate: int = 1,
        micro_batch: int | str | None = None,
        precision: str = "fp32",
        scheduler: Any = None,
        scheduler_by: str = "epoch",
        clip_grad_norm: float | None = None,
        device: torch.device | str | None = None,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        checkpoint_every: int | None = None,
        keep_last: int = 2,
        monitor: str = "val_loss",
        monitor_mode: str = "min",
        metrics: Mapping[str, Any] | None = None,
        progress: bool = True,
        weight: Weight | None = None,
        on_nonfinite: str = "raise",
        callbacks: Sequence[Callback] = (),
    ) -> None:
        if scheduler_by not in ("epoch", "step"):
            raise ArgumentError(f"expected scheduler_by 'epoch' or 'step', found {scheduler_by!r}")
        if monitor_mode not in ("min", "max"):
            raise ArgumentError(f"expected monitor_mode 'min' or 'max', found {monitor_mode!r}")
        if isinstance(micro_batch, str) and micro_batch != "auto":
            raise ArgumentError(f"expected micro_batch to be a whole number, None or 'auto', found {micro_batch!r}")
        if checkpoint_every is not None and checkpoint_every < 1:
            raise ArgumentError(f"expected checkpoint_every of at least 1, found {checkpoint_every}")
        self.device = _device_of(model, optimizer, device)
        self.ranks = Ranks()
        if self.ranks.world_size > 1 and find_ddp(model) is None:
            model = DistributedDataParallel(model)
        self.model, self.optimizer, self.loss = model, optimizer, loss
        self.scheduler, self.scheduler_by = scheduler, scheduler_by
        self.precision = Precision(precision, self.device)
        self.accumulator = Accumulator(
            model,
            optimizer,
            accumulate=accumulate,
            micro_batch=None if isinstance(micro_batch, str) else micro_batch,
            reduction=reduction_of(loss),
            weight=weight or weight_of(loss),
            device=self.device,
            scaler=self.precision.scaler,
            clip_grad_norm=clip_grad_norm,
            on_nonfinite=on_nonfinite,
            hold=micro_batch == "auto",
            ranks=self.ranks,
        )
        self.checkpoints = checkpoint.CheckpointFolder(checkpoint_dir, keep_last) if checkpoint_dir else None
        self.checkpoint_every, self.monitor, self.monitor_mode = checkpoint_every, monitor, monitor_mode
        self.train_metrics = Metrics(metrics, self.ranks, self.device)
        self.metrics = Metrics(metrics, self.ranks, self.device)
        self.callbacks = [*callbacks, *([ProgressBar()] if progress else [])]
        self.epoch = self.step = self.skipped = 0
        self.history: list[dict[str, float]] = []
        self.best: float | None = None
        self.steps_per_epoch: int | None = None
        self.steps_in_epoch = 0
        self._in_epoch = self._stopped = False
        self._loss_sum = self._weight_sum = 0.0
        self._samples = 0
        self._position: Position | None = None
        self._clock = (0.0, 0, 0.0)  # when this process began the epoch, samples and waiting seconds at that time

    def fit(
        self,
        train_loader: Iterable[Any],
        epochs: int,
        val_loader: Iterable[Any] | None = None,
        resume: str | os.PathLike[str] | None = "auto",
    ) -> list[dict[str, float]]:
        """Train until `epochs` epochs are done in all, and return the history.

        `resume`: "auto" goes on from the newest whole checkpoint of `checkpoint_dir`, if there is one; a path reads
        that checkpoint; None starts anew, in a folder without checkpoints. The loaders give `(inputs, targets)`.
        """
        if epochs < 0:
            raise ArgumentError(f"expected epochs of at least 0, found {epochs}")
        self._position = Position(train_loader)
        self.steps_per_epoch = self._count_steps(train_loader)
        self._resume(resume)
        try:
            self._call("on_fit_start")
            while self.epoch < epochs and not self._stopped:
                logs = self._train_epoch(self._position)
                if val_loader is not None:
                    logs.update({f"val_{name}": value for name, value in self.evaluate(val_loader).items()})
                self._end_epoch(logs)
        finally:
            self._call("on_fit_end")
        return self.history

    def _train_epoch(self, position: Position) -> dict[str, float]:
        if not self._in_epoch:
            self._begin_epoch()
        self.model.train()
        self._call("on_epoch_start")
        source = position.epoch(self.epoch)
        self._clock = (time.perf_counter(), self._samples, position.waited)
        for group in self.accumulator.groups(source, start=self._samples):
            self._forward_backward(group)
            result = group.step()
            self.step += 1
            self.steps_in_epoch += 1
            self._samples += result.samples
            self.skipped += not result.stepped
            if math.isfinite(result.loss):
                self._loss_sum += result.loss * result.weight
                self._weight_sum += result.weight
            if self.scheduler is not None and self.scheduler_by == "step" and result.stepped:
                self.scheduler.step()
            self._call("on_step", result)
            if self._step_checkpoint_is_due():
                self.save()
        return self._epoch_numbers()

    def _forward_backward(self, group: Group) -> None:
        """All micro-batches of a group; with "auto", again and again until they fit into memory."""
        if not self.accumulator.hold:
            for inputs, targets in group:
                outputs = self._micro_batch(group, inputs, targets)
                if self.train_metrics:
                    self.train_metrics.update(outputs.detach(), targets)
            return
        snapshot = Snapshot(self.model)
        while True:
            seen: list[tuple[Any, Any]] = []  # for the metrics, which must not count a failed attempt
            failed = ""
            try:
                for inputs, targets in group:
                    outputs = self._micro_batch(group, inputs, targets)
                    if self.train_metrics:
                        seen.append((outputs.detach(), targets))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                failed = str(error) or type(error).__name__
            if not any(self.ranks.max(float(bool(failed)))):
                break
            # outside of the except block: the traceback, and with it the failed forward's tensors, is gone
            self._halve(group, failed)
            snapshot.restore()
        for outputs, targets in seen:
            self.train_metrics.update(outputs, targets)

    def _micro_batch(self, group: Group, inputs: Any, targets: Any) -> Any:
        with self.precision.autocast():
            outputs = self.model(inputs)
            loss = self.loss(outputs, targets)
        group.backward(loss)
        return outputs

    def _halve(self, group: Group, failed: str) -> None:
        size = self.accumulator.micro_batch or 1
        if size == 1:
            raise torch.OutOfMemoryError(f"a micro-batch of one sample does not fit: {failed or 'on another rank'}")
        group.restart(size // 2)

    def grow_micro_batch(self) -> None:
        """With `micro_batch="auto"`: try twice the size from the next step on, halved again if it does not fit."""
        if not self.accumulator.hold:
            raise ArgumentError('expected micro_batch="auto", found a fixed size')
        if self.accumulator.micro_batch is not None:
            self.accumulator.micro_batch *= 2

    def evaluate(self, loader: Iterable[Any]) -> dict[str, float]:
        """The loss and the metrics over all of the loader's samples, of all ranks; the model's mode is put back."""
        weigh, reduction = self.accumulator.weigh, self.accumulator.reduction
        model, was_training = unwrap(self.model), self.model.training
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        weight_sum: Any = 0.0
        self.metrics.reset()
        self._call("on_evaluate_start")
        modes = {module: module.training for module in model.modules()}  # a frozen layer stays in its mode
        model.eval()
        try:
            with torch.no_grad():
                for batch in loader:
                    pair = batches.split_pair(batch)
                    count = batches.length(pair)
                    size = self.accumulator.micro_batch or count
                    for first in range(0, count, size):
                        part = batches.narrow(pair, first, min(size, count - first))
                        weight = weigh(*part)
                        inputs, targets = batches.to_device(part, self.device)
                        with self.precision.autocast():
                            outputs = model(inputs)
                            loss = self.loss(outputs, targets)
                        loss_sum += loss * weight if reduction == "mean" else loss
                        weight_sum = weight_sum + weight
                        self.metrics.update(outputs, targets)
        finally:
            self.model.training = was_training
            for module, mode in modes.items():
                module.training = mode
            self._call("on_evaluate_end")
        loss_total, weight_total = self.ranks.sum(float(loss_sum), float(weight_sum))
        if weight_total == 0:
            raise ArgumentError("the loader to evaluate on is empty")
        return {"loss": loss_total / weight_total, **self.metrics.compute()}

    def speed(self) -> dict[str, float]:
        """Of this epoch so far, in this process: images/s, and the share of the time spent waiting for data."""
        began, samples, waited = self._clock
        seconds = max(time.perf_counter() - began, 1e-9)
        waiting = self._position.waited - waited if self._position is not None else 0.0
        return {"images_per_s": (self._samples - samples) / seconds, "data_share": waiting / seconds}

    def stop(self) -> None:
        """End the fit after this epoch."""
        self._stopped = True

    def _begin_epoch(self) -> None:
        self._loss_sum = self._weight_sum = 0.0
        self._samples = self.steps_in_epoch = 0
        self.train_metrics.reset()
        self._in_epoch = True

    def _epoch_numbers(self) -> dict[str, float]:
        loss_sum, weight_sum, samples = self.ranks.sum(self._loss_sum, self._weight_sum, self._samples)
        if samples == 0:
            raise ArgumentError("the training loader is empty")
        logs: dict[str, float] = {
            "epoch": self.epoch + 1,
            "step": self.step,
            "lr": self.optimizer.param_groups[0]["lr"],
        }
        logs["train_loss"] = loss_sum / weight_sum if weight_sum else math.nan
        if self.train_metrics:
            logs.update({f"train_{name}": value for name, value in self.train_metrics.compute().items()})
        return {**logs, **self.speed()}

    def _end_epoch(self, logs: dict[str, float]) -> None:
        if self.scheduler is not None and isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(logs[self.monitor])
        elif self.scheduler is not None and self.scheduler_by == "epoch":
            self.scheduler.step()
        self._call("on_epoch_end", logs)
        value, sign = logs.get(self.monitor), 1 if self.monitor_mode == "min" else -1
        improved = value is not None and (self.best is None or sign * value < sign * self.best)
        self.best = value if improved else self.best
        self.history.append(logs)
        self.epoch += 1
        self._in_epoch = False
        self.save(best=improved)

    def _call(self, moment: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, moment)(self, *arguments)

    def _count_steps(self, loader: Any) -> int | None:
        """Optimizer steps in an epoch: those of the rank with most; None if a loader's length is unknown."""
        try:
            length = len(loader)
        except TypeError:
            length = -1
        shortest, longest = self.ranks.max(-length, length)
        return None if -shortest < 0 else math.ceil(longest / self.accumulator.accumulate)

    def _step_checkpoint_is_due(self) -> bool:
        every = self.checkpoint_every
        return every is not None and self.step % every == 0 and self.steps_in_epoch != self.steps_per_epoch

    # ---- checkpoints: all that a resume needs ------------------------------------------------------------------

    def save(self, *, best: bool = False) -> None:
        """Write a checkpoint now, if there is a `checkpoint_dir`. All ranks call it; rank 0 writes."""
        if self.checkpoints is None:
            return
        state = self.state_dict()
        if self.ranks.rank == 0:
            self.checkpoints.save(state, self.step, best=best)

    def state_dict(self) -> dict[str, Any]:
        """Everything of the run, as tensors and plain values."""
        scaler, position = self.precision.scaler, self._position
        own = {
            "position": None if position is None else position.state_dict(between_epochs=not self._in_epoch),
            "sums": [self._loss_sum, self._weight_sum, self._samples],
            "metrics": self.train_metrics.state_dict(),
        }
        return {
            "model": unwrap(self.model).state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "accumulator": self.accumulator.state_dict(),
            "callbacks": [[type(callback).__name__, callback.state_dict()] for callback in self.callbacks],
            "counters": [self.epoch, self.step, self.steps_in_epoch, self.skipped, self._in_epoch, self._stopped],
            "history": self.history,
            "best": self.best,
            "ranks": self.ranks.gather(own),
        }

    def load_state_dict(self, state: dict[str, Any], path: str | os.PathLike[str] = "state") -> None:
        """Go on from `state_dict()`; StateError, before anything is changed, if it belongs to another run."""
        model, scaler = unwrap(self.model), self.precision.scaler
        checkpoint.check_model(model, state["model"], path)
        if len(state["ranks"]) != self.ranks.world_size:
            raise StateError(f"{path}: saved by {len(state['ranks'])} processes, there are {self.ranks.world_size}")
        for name, value in (("scheduler", self.scheduler), ("scaler", scaler)):
            if (value is None) != (state[name] is None):
                raise StateError(f"{path}: saved {'without' if value is not None else 'with'} a {name}")
        model.load_state_dict(state["model"])
        try:
            self.optimizer.load_state_dict(state["optimizer"])
        except ValueError as error:
            raise StateError(f"{path}: a checkpoint of another optimizer: {error}") from error
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        if scaler is not None:
            scaler.load_state_dict(state["scaler"])
        self.accumulator.load_state_dict(state["accumulator"])
        self.epoch, self.step, self.steps_in_epoch, self.skipped, self._in_epoch, self._stopped = state["counters"]
        self.history, self.best = list(state["history"]), state["best"]
        saved = list(state["callbacks"])
        for callback in self.callbacks:
            found = next((item for item in saved if item[0] == type(callback).__name__), None)
            if found is not None:
                saved.remove(found)
                callback.load_state_dict(found[1])
        own = state["ranks"][self.ranks.rank]
        self._loss_sum, self._weight_sum, self._samples = own["sums"]
        self.train_metrics.load_state_dict(own["metrics"])
        if self._position is not None and own["position"] is not None:
            self._position.load_state_dict(own["position"], between_epochs=not self._in_epoch)

    def _resume(self, resume: str | os.PathLike[str] | None) -> None:
        if resume is None or self.step:
            if self.checkpoints is not None and not self.step and self.checkpoints.files():
                raise ArgumentError(f"{self.checkpoints.folder} has checkpoints of another run: resume it, or empty it")
            return
        if resume != "auto":
            self.load_state_dict(checkpoint.read(resume), resume)
        elif self.checkpoints is not None:
            newest = self.checkpoints.newest()
            path = None if newest is None else str(newest[0])
            if self.ranks.first(path) != path:
                raise StateError(f"the ranks see different checkpoints in {self.checkpoints.folder}: {path} here")
            if newest is not None:
                self.load_state_dict(newest[1], newest[0])


def _device_of(model: nn.Module, optimizer: Optimizer, device: torch.device | str | None) -> torch.device:
    """The device that all of the model is on; ArgumentError if it is not the one asked for."""
    parameters = list(model.parameters())
    if not parameters:
        raise ArgumentError("the model has no parameters")
    found = {p.device for p in parameters}
    expected = next(iter(found)) if device is None else torch.device(device)
    same = {d for d in found if d.type == expected.type and expected.index in (None, d.index)}
    if found != same or len(found) != 1:
        names = ", ".join(sorted(map(str, found)))
        raise ArgumentError(
            f"expected the whole model on {expected}, found it on {names}: "
            "call model.to(device) before the optimizer is made"
        )
    own = {id(p) for p in parameters}
    if not any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
        raise ArgumentError("the optimizer holds none of the model's parameters")
    return next(iter(found))
