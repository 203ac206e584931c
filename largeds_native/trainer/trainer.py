"""The training loop. Read `_train_epoch` first: all else serves it.

What it leans on lives beside it: the accumulation of gradients (accumulation.py, group.py), going back after a lack of
memory (memory.py), the run's state (run_state.py) and its files (checkpoint.py), the place in the loader (position.py),
evaluation, and callbacks, each in its file.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from largeds_native.errors import ArgumentError
from largeds_native.trainer import checkpoint, run_state
from largeds_native.trainer.accumulation import Accumulator
from largeds_native.trainer.callbacks import Callback
from largeds_native.trainer.device import device_of
from largeds_native.trainer.evaluation import evaluate
from largeds_native.trainer.group import Group
from largeds_native.trainer.memory import Snapshot, is_out_of_memory
from largeds_native.trainer.metrics import Metrics
from largeds_native.trainer.position import Position
from largeds_native.trainer.precision import Precision
from largeds_native.trainer.progress import ProgressBar
from largeds_native.trainer.ranks import Ranks, find_ddp
from largeds_native.trainer.totals import EpochTotals
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
        self.device = device_of(model, optimizer, device)
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
        self.in_epoch = self.stopped = False
        self.totals = EpochTotals()
        self.position: Position | None = None

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
        self.position = Position(train_loader)
        self.steps_per_epoch = self._count_steps(train_loader)
        run_state.resume(self, resume)
        try:
            self.call("on_fit_start")
            while self.epoch < epochs and not self.stopped:
                logs = self._train_epoch(self.position)
                if val_loader is not None:
                    if val_loader is not train_loader and hasattr(val_loader, "set_epoch"):
                        val_loader.set_epoch(self.epoch)  # its order doesn't depend on where the run was resumed
                    logs.update({f"val_{name}": value for name, value in self.evaluate(val_loader).items()})
                self._end_epoch(logs)
        finally:
            self.call("on_fit_end")
        return self.history

    def _train_epoch(self, position: Position) -> dict[str, float]:
        if not self.in_epoch:
            self._begin_epoch()
        self.model.train()
        self.call("on_epoch_start")
        source = position.epoch(self.epoch)
        self.totals.start_clock(position.waited)
        for group in self.accumulator.groups(source, start=self.totals.samples):
            self._forward_backward(group)
            result = group.step()
            self.step += 1
            self.steps_in_epoch += 1
            self.totals.add(result)
            self.skipped += not result.stepped
            if self.scheduler is not None and self.scheduler_by == "step" and result.stepped:
                self.scheduler.step()
            self.call("on_step", result)
            if self._step_checkpoint_is_due():
                self.save()
        return self._epoch_numbers()

    def _forward_backward(self, group: Group) -> None:
        """All micro-batches of a group; with "auto", again and again until they fit into memory."""
        if not self.accumulator.hold:
            for inputs, targets in group:
                outputs = self._micro_batch(group, inputs, targets)
                if self.train_metrics:
                    self.train_metrics.update(outputs, targets)
                del inputs, targets, outputs  # before the next ones are made
            return
        snapshot = Snapshot(self.model)
        while True:
            seen: list[tuple[Any, Any]] = []  # for the metrics, which must not count a failed attempt
            failed = ""
            try:
                for inputs, targets in group:
                    outputs = self._micro_batch(group, inputs, targets)
                    if self.train_metrics:
                        seen.append((outputs, targets))
                    del inputs, targets, outputs
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
        return outputs.detach() if self.train_metrics else None

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
        return evaluate(self, loader)

    def speed(self) -> dict[str, float]:
        """Of this epoch so far, in this process: images/s, and the share of the time spent waiting for data."""
        return self.totals.speed(0.0 if self.position is None else self.position.waited)

    def stop(self) -> None:
        """End the fit after this epoch."""
        self.stopped = True

    def _begin_epoch(self) -> None:
        self.totals = EpochTotals()
        self.steps_in_epoch = 0
        self.train_metrics.reset()
        self.in_epoch = True

    def _epoch_numbers(self) -> dict[str, float]:
        loss_sum, weight_sum, samples = self.ranks.sum(self.totals.loss, self.totals.weight, self.totals.samples)
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
        self.call("on_epoch_end", logs)
        value, sign = logs.get(self.monitor), 1 if self.monitor_mode == "min" else -1
        improved = value is not None and (self.best is None or sign * value < sign * self.best)
        self.best = value if improved else self.best
        self.history.append(logs)
        self.epoch += 1
        self.in_epoch = False
        self.save(best=improved)

    def call(self, moment: str, *arguments: Any) -> None:
        """Call this moment of every callback."""
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
        return run_state.capture(self)

    def load_state_dict(self, state: dict[str, Any], path: str | os.PathLike[str] = "state") -> None:
        """Go on from `state_dict()`; StateError, before anything is changed, if it belongs to another run."""
        run_state.restore(self, state, path)
