"""The training loop. Read `_train_epoch` first: everything else supports it.

Its parts are in the files beside this one, and none of them depends on the Trainer: gradient accumulation
(accumulation.py), repeating a step that ran out of memory (memory.py), the state of the run (run_state.py) and its
files (checkpoint_folder.py), the counts of steps (step_counts.py), the position in the loader (position.py), evaluation
(evaluation.py), callbacks (callbacks.py).
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from largeds_native.errors import ArgumentError
from largeds_native.loading.torch_samplers import set_epoch
from largeds_native.trainer import batches, run_state
from largeds_native.trainer.accumulation import Accumulator
from largeds_native.trainer.arguments import (
    check_epochs,
    check_loader,
    check_monitored,
    check_parts,
    may_add_numbers,
)
from largeds_native.trainer.before_training import (
    check_checkpoint_dir,
    check_loaders,
    warn_of_nothing,
    warn_of_processes_apart,
)
from largeds_native.trainer.best import Best
from largeds_native.trainer.callbacks import Callback, Callbacks
from largeds_native.trainer.checkpoint_folder import CheckpointFolder
from largeds_native.trainer.counts import check_count
from largeds_native.trainer.device import device_of, explained
from largeds_native.trainer.early_stopping import EarlyStopping
from largeds_native.trainer.ema import EMA, averaged_weights
from largeds_native.trainer.evaluation import check_world, evaluate
from largeds_native.trainer.group import Group
from largeds_native.trainer.members import check_members
from largeds_native.trainer.memory import Record, until_it_fits
from largeds_native.trainer.metrics import Metrics
from largeds_native.trainer.parts import has_parts
from largeds_native.trainer.position import Position
from largeds_native.trainer.precision import Precision
from largeds_native.trainer.progress import ProgressBar
from largeds_native.trainer.ranks import Ranks, find_ddp, unwrap
from largeds_native.trainer.run_progress import RunProgress
from largeds_native.trainer.schedule import Schedule
from largeds_native.trainer.settings import Settings
from largeds_native.trainer.sharding import ShardedSync, check_wrappers, is_sharded
from largeds_native.trainer.step_counts import StepCounts
from largeds_native.trainer.step_result import StepResult
from largeds_native.trainer.stopping import SignalWatch
from largeds_native.trainer.totals import EpochTotals
from largeds_native.trainer.trial import try_validation
from largeds_native.trainer.weights import Loss, Weight, reduction_of, weight_of


class Trainer:
    """Trains a model with exact gradient accumulation, and resumes bit-identically.

    Model and loss:

    model: any module, also one wrapped by `torch.compile` or DistributedDataParallel, or sharded by `fully_shard`
        (FSDP2 and HSDP, torch 2.6). With several processes (`torch.distributed` initialised), a plain module is wrapped
        in DistributedDataParallel.
    optimizer: over the model's parameters.
    loss: `loss(outputs, targets)` returns a tensor of one element; its `reduction` may be "mean" or "sum".
    weight: `weight(inputs, targets)` returns the denominator of a mean loss if it is not the number of samples (tokens,
        a mask). It is not needed for torch's losses: modules, functions, and functools.partial of them. If another loss
        seems to have weights, a warning asks for it.
    device: of the batches; None is that of the model.

    Steps:

    accumulate: number of loader batches in one optimizer step.
    micro_batch: number of samples in one forward: each loader batch is split into views of this size. "auto" starts
        with the whole batch, and when memory runs out repeats the step with half of it; it keeps the batches of a step
        until the step is done. Results do not depend on when memory ran out. With FSDP2 (torch 2.14), sizes are tried
        before the steps that need them.
    precision: "fp32", "bf16" or "fp16" (autocast; fp16 with a GradScaler).
    clip_grad_norm: the largest norm of a step's gradient; None does not clip.
    scheduler, scheduler_by: a learning rate scheduler, stepped by "epoch", or by "step" of the optimizer.
    on_nonfinite: "raise" NonFiniteError when a loss or gradient is infinite or NaN, on a CUDA device one step later and
        before anything is saved; "raise_at_once", for which each step waits for the device; or "skip" the step, which
        waits unless the optimizer is one of torch's with `fused=True`. See Accumulator.
    sync: of a model sharded by `fully_shard`: the gradients of "each" micro-batch are reduce-scattered, which is the
        default, or only those of the "last" one of a step.

    Checkpoints:

    checkpoint_dir: folder for checkpoints, the same one for all ranks, written after each epoch's training and again
        after its validation. `torch.load(".../best.pt")["model"]` are the weights that were evaluated as the best: with
        an EMA, the average. Of a sharded model each checkpoint is a folder, `step-*` and `best-*`, to which each rank
        writes its part; see `read_checkpoint`. None keeps none.
    checkpoint_every: number of steps after which a checkpoint is also written within an epoch; None, at its end alone.
    keep_last: number of the newest checkpoints that are kept, beside the best one.
    monitor, monitor_mode: the number of an epoch's logs by which a checkpoint is the best one, and whether the smallest
        ("min") or the largest ("max") is.
    stop_on_signal: at SIGTERM, save after the current step and raise StoppedBySignal, a SystemExit with code 75, on all
        ranks; during a validation, after it. It needs a `checkpoint_dir`. The handler is installed only during `fit`,
        which must then run in the main thread.

    Numbers and messages:

    metrics: name -> torchmetrics object, or a function of (outputs, targets) that returns a micro-batch's mean. The
        members of a MetricCollection keep its names.
    callbacks: instances of Callback, such as EMA, EarlyStopping, Freeze, CSVLogger and TensorBoardLogger.
    progress: show a bar on a terminal, else one line per epoch; and the checkpoint from which the run goes on.

    Raises ArgumentError for an invalid argument; StateError for a checkpoint of another model or run.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        loss: Loss,
        *,
        weight: Weight | None = None,
        device: torch.device | str | None = None,
        accumulate: int = 1,
        micro_batch: int | str | None = None,
        precision: str = "fp32",
        clip_grad_norm: float | None = None,
        scheduler: Any = None,
        scheduler_by: str = "epoch",
        on_nonfinite: str = "raise",
        sync: str | None = None,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        checkpoint_every: int | None = None,
        keep_last: int = 2,
        monitor: str = "val_loss",
        monitor_mode: str = "min",
        stop_on_signal: bool = False,
        metrics: Mapping[str, Any] | None = None,
        callbacks: Sequence[Callback] = (),
        progress: bool = True,
    ) -> None:
        check_parts(optimizer, scheduler, loss, weight, callbacks)
        if isinstance(micro_batch, str) and micro_batch != "auto":
            raise ArgumentError(f"expected micro_batch to be a whole number, None or 'auto', found {micro_batch!r}")
        if checkpoint_every is not None:
            check_count("checkpoint_every", checkpoint_every)
        if stop_on_signal and not checkpoint_dir:
            raise ArgumentError("stop_on_signal saves the run before it stops: give a checkpoint_dir, too")
        check_wrappers(model, optimizer)
        self.device = device_of(model, optimizer, device)
        self.ranks = Ranks()
        if self.ranks.world_size > 1 and find_ddp(model) is None and not is_sharded(model):
            model = DistributedDataParallel(model)
        self.model, self.optimizer, self.loss = model, optimizer, loss
        self.scheduler, self.schedule = scheduler, Schedule(scheduler, scheduler_by)
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
            sync=sync,
            hold=micro_batch == "auto",
            ranks=self.ranks,
        )
        if self.accumulator.hold and isinstance(self.accumulator.sync, ShardedSync):
            self.accumulator.sync.check_trials()
        self.checkpoints: CheckpointFolder | None = None
        if checkpoint_dir:
            self.checkpoints = CheckpointFolder(checkpoint_dir, keep_last, self.ranks)
        self.checkpoint_every, self.monitor, self.best = checkpoint_every, monitor, Best(monitor_mode, "monitor_mode")
        self.train_metrics = Metrics(metrics, self.ranks, self.device)
        self.metrics = Metrics(metrics, self.ranks, self.device)
        self.callbacks = Callbacks([*callbacks, *([ProgressBar()] if progress else [])])
        self._progress = RunProgress()
        self._steps = StepCounts(self.accumulator, self._progress, self.schedule)
        self._settings = Settings(optimizer, scheduler)
        self._signals = SignalWatch(self.ranks, stop_on_signal)
        self._unsaved_best = False  # the last epoch was the best so far, and its checkpoint could not be written
        self.steps_per_epoch: int | None = None
        self.stopped = False
        self._resumed_from: str | os.PathLike[str] | None = None
        self.totals = EpochTotals()
        self.position: Position | None = None

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return self._progress.epoch

    @property
    def step(self) -> int:
        """Number of optimizer steps, over all epochs."""
        return self._progress.step

    @property
    def skipped(self) -> int:
        """Number of skipped steps, in which a loss or gradient was not finite."""
        return self._steps.skipped

    @property
    def steps_in_epoch(self) -> int:
        """Number of optimizer steps in this epoch so far."""
        return self._progress.steps_in_epoch

    @property
    def resumed_from(self) -> str | os.PathLike[str] | None:
        """The checkpoint that the last `fit` went on from; None where it began, or went on in this process."""
        return self._resumed_from

    @property
    def history(self) -> list[dict[str, float]]:
        """The logs of each finished epoch."""
        return self._progress.history

    def fit(
        self,
        train_loader: Iterable[Any],
        epochs: int,
        val_loader: Iterable[Any] | None = None,
        resume: str | os.PathLike[str] | None = "auto",
    ) -> list[dict[str, float]]:
        """Train until `epochs` epochs are finished in total, and return the history.

        `resume`: "auto" continues from the newest readable checkpoint in `checkpoint_dir`, if there is one; a path
        loads that checkpoint, and the next save renames those of later steps to `abandoned-step-*.pt`; None starts a
        new run, for which the folder must have no checkpoints. A second fit of this trainer continues the run; an epoch
        that was interrupted in this process starts again.

        Before the first step, one batch of `val_loader` is evaluated as a trial, if it is a list, a Loader or a
        DataLoader; this changes nothing. An epoch's training is saved before its validation: after a failure in
        validation, metrics or callbacks, a resume repeats only those.

        The loaders yield `(inputs, targets)`; of a longer tuple, the targets are all members but the first. Inputs and
        targets may be dicts, lists and tuples of tensors; `loss` gets the model's outputs unchanged.

        Raises ArgumentError before the first step: for an argument that is not a loader of batches, is empty, or is
        split over other ranks; for a Loader of several views or fields where the model, or a loss of torch's, takes one
        tensor; if the classes of the two loaders differ; if `monitor`, EarlyStopping or ReduceLROnPlateau need a number
        that no epoch has; for a metric that fails in the trial. StorageError if `checkpoint_dir` can't be written to.
        """
        check_epochs(epochs)
        warn_of_processes_apart()
        check_loaders(train_loader, val_loader, self.model, self.loss, self.ranks)
        device_of(self.model, self.optimizer, self.device)  # it may have been moved since
        self.stopped = False
        self.position = Position(train_loader)
        batches_per_epoch = self.ranks.longest(train_loader)
        self.steps_per_epoch = batches_per_epoch and math.ceil(batches_per_epoch / self.accumulator.accumulate)
        found = run_state.find_checkpoint(resume, self.checkpoints, self.step > 0, self.ranks)
        if found is not None:
            self.load_state_dict(*found)
        self._resumed_from = None if found is None else found[1]
        if self.epoch < epochs:
            check_checkpoint_dir(self.checkpoints, self.ranks)
            self._check_before_training(val_loader)
        self._save_unsaved_best()
        done = self.epoch
        with self._signals:
            try:
                self.callbacks.call("on_fit_start", self)
                while self.epoch < epochs and not self.stopped:
                    if self._progress.trained is None:
                        self._train_epoch(self.position)
                    if val_loader is not None and val_loader is not train_loader:
                        set_epoch(val_loader, self.epoch)  # wherever the run was resumed
                    self._end_epoch(val_loader)
            finally:
                self.callbacks.call("on_fit_end", self)
        if self.epoch == done and epochs > 0:
            warn_of_nothing(self.epoch, epochs, str(self.resumed_from or "this trainer"))
        return self.history

    def _save_unsaved_best(self) -> None:
        """The checkpoint of the best epoch that a fit before this one could not write."""
        if any(self.ranks.max(float(self._unsaved_best))):
            self.save(best=True)
            self._unsaved_best = False

    def _check_before_training(self, val_loader: Iterable[Any] | None) -> None:
        """What would otherwise fail when the first epoch is over: a batch of validation, and the names watched."""
        metrics, tried = self.metrics.names, None
        if val_loader is not None:
            tried = try_validation(val_loader, self.accumulator, self.loss, self.precision, self.metrics)
            metrics = self.metrics.names if tried is None else tried
        if may_add_numbers(self.callbacks) or (tried is None and not self.metrics.names_are_known):
            return
        names = ["epoch", "step", "lr", "train_loss", *(f"train_{name}" for name in metrics), *self.speed()]
        if val_loader is not None:
            names += ["val_loss", *(f"val_{name}" for name in metrics)]
        if self.schedule.watches:
            check_monitored("ReduceLROnPlateau", self.monitor, names)
        for callback in self.callbacks:
            if isinstance(callback, EarlyStopping):
                check_monitored("EarlyStopping", callback.monitor, names)
        self._check_monitor(names)

    def _check_monitor(self, names: Collection[str]) -> None:
        if self.monitor != "val_loss":  # the default, absent without a validation
            check_monitored("monitor", self.monitor, names)

    def _train_epoch(self, position: Position) -> None:
        """What is left of this epoch's training. At its end it is saved, whatever becomes of the validation."""
        if not position.in_epoch:
            self._begin_epoch()
            position.in_epoch = True
        self.model.train()
        self.callbacks.call("on_epoch_start", self)
        source = position.epoch(self.epoch)
        self.totals.start_clock(position.waited)
        weighting = self.accumulator.weighting.of_loader(position.loader)
        with explained(self.device, self._where, self._advice), self._steps.reading_at_the_end(), weighting:
            for group in self.accumulator.groups(source, start=self.totals.samples):
                if self.accumulator.hold:
                    for outputs, targets in until_it_fits(group, self.accumulator, self._forward_backward):
                        self.train_metrics.update(outputs, targets)
                else:
                    self._forward_backward(group, self.train_metrics.update)
                self._steps.read()  # here, since the device has the work of this step now
                self._count(group.step(norm=self.callbacks.read_norm(self.step + 1)))
        if not any(self.ranks.max(self.totals.samples)):
            raise ArgumentError(
                "the training loader is empty: with drop_last=True, a batch may be larger than the data"
            )
        position.in_epoch = False
        self._progress.trained = self.speed()
        self.save()
        if self._signals.came():
            self._stop_by_signal()

    def _where(self) -> str:
        return f"in step {self.step} (step {self.steps_in_epoch} of epoch {self.epoch})"

    @property
    def _advice(self) -> str:
        """For a lack of memory."""
        if self.accumulator.hold:
            return ""  # what can be repeated was, until one sample was too much, which the error says
        return 'Trainer(micro_batch="auto") repeats a step in smaller micro-batches, with the same result'

    def _count(self, result: StepResult) -> None:
        """What follows a step."""
        self._steps.count(result, self.totals)
        self.callbacks.call("on_step", self, result)
        self._after_step()

    def _forward_backward(self, group: Group, record: Record) -> None:
        for inputs, targets in group:
            stand_in = group.stand_in
            outputs = self._micro_batch(group, inputs, targets)
            if self.train_metrics and not stand_in:
                record(outputs, targets)
            del inputs, targets, outputs  # frees their memory before the next micro-batch

    def _micro_batch(self, group: Group, inputs: Any, targets: Any) -> Any:
        """Forward, loss and backward of one micro-batch; returns the outputs for the metrics."""
        with self.precision.autocast():
            outputs = batches.forward(self.model, inputs)
            loss = self.loss(outputs, targets)
        group.backward(loss)
        return batches.detach(outputs) if self.train_metrics else None

    def grow_micro_batch(self) -> None:
        """With `micro_batch="auto"`: double the size from the next step on; it is halved again if it does not fit."""
        if not self.accumulator.hold:
            raise ArgumentError('expected micro_batch="auto", found a fixed size')
        if self.accumulator.micro_batch is not None:
            self.accumulator.micro_batch *= 2

    def evaluate(self, loader: Iterable[Any]) -> dict[str, float]:
        """The loss and the metrics over all samples of the loader and all ranks, each counted once. The model keeps its
        mode."""
        check_loader("loader", loader)
        check_world(loader, self.ranks.world_size)
        check_members("loader", loader, self.model, self.loss)
        self._steps.read()
        self.callbacks.call("on_evaluate_start", self)
        try:
            return evaluate(loader, self.accumulator, self.loss, self.precision, self.metrics)
        finally:
            self.callbacks.call("on_evaluate_end", self)

    def speed(self) -> dict[str, float]:
        """In this epoch so far, of this process: images/s, and the share of the time spent waiting for data."""
        return self.totals.speed(0.0 if self.position is None else self.position.waited)

    def stop(self) -> None:
        """End this fit after this epoch."""
        self.stopped = True

    def _begin_epoch(self) -> None:
        self.totals = EpochTotals()
        self._progress.steps_in_epoch = 0
        self.train_metrics.reset()

    def _epoch_logs(self) -> dict[str, float]:
        """Those of the epoch's training."""
        loss_sum, weight_sum = self.ranks.sum(self.totals.loss, self.totals.weight)
        logs: dict[str, float] = {"epoch": self.epoch + 1, "step": self.step}
        logs["lr"] = float(self.optimizer.param_groups[0]["lr"])
        logs["train_loss"] = loss_sum / weight_sum if weight_sum else math.nan
        if self.train_metrics:
            logs.update({f"train_{name}": value for name, value in self.train_metrics.compute().items()})
        return {**logs, **(self._progress.trained or self.speed())}

    def _end_epoch(self, val_loader: Iterable[Any] | None) -> None:
        """Validation, callbacks, scheduler and the best, after an epoch's training."""
        logs = self._epoch_logs()
        if val_loader is not None:
            logs.update({f"val_{name}": value for name, value in self.evaluate(val_loader).items()})
        self.callbacks.call("on_epoch_end", self, logs)
        self._check_monitor(logs)
        self.schedule.after_epoch(logs, self.monitor)
        best = self.monitor in logs and self.best.improves(logs[self.monitor])
        self._progress.history.append(logs)
        self._progress.epoch += 1
        self._progress.trained = None
        self._unsaved_best = best
        self.save(best=best)
        self._unsaved_best = False
        if self._signals.came():
            self._stop_by_signal()

    def _after_step(self) -> None:
        """Save the run within an epoch, if it is time to or a signal came. What follows an epoch's last step is saved
        when the loader has ended."""
        if self.steps_in_epoch == self.steps_per_epoch:
            return
        signalled = self._signals.came()
        if signalled or (self.checkpoint_every is not None and self.step % self.checkpoint_every == 0):
            self.save()
        if signalled:
            self._stop_by_signal()

    def _stop_by_signal(self) -> None:
        self._signals.stop(self.step, self.checkpoints and self.checkpoints.folder)

    # ---- checkpoints ------------------------------------------------------------------------------------------

    def save(self, *, best: bool = False) -> None:
        """Write a checkpoint now, if there is a `checkpoint_dir`. All ranks call it; rank 0 writes, and of a sharded
        model each rank its part.

        With `best`, `best.pt` is this checkpoint, too. With an EMA, what was evaluated is the average: `best.pt` has it
        as "model", and the weights that a resume goes on with as "training_model".
        """
        if self.checkpoints is None:
            return
        state = self.state_dict()
        if self.ranks.rank == 0 or has_parts(state):
            averages = [callback for callback in self.callbacks if isinstance(callback, EMA)]
            self.checkpoints.save(state, self.step, best=best and not averages)
            if best and averages:
                averaged = averaged_weights(averages, self)
                self.checkpoints.save_best({**state, "model": averaged, "training_model": state["model"]})

    def state_dict(self) -> dict[str, Any]:
        """The state of the run, as tensors and plain values. All ranks call it."""
        self._steps.read()
        self.accumulator.sync.share_buffers()
        return run_state.capture(self._parts())

    def load_state_dict(self, state: dict[str, Any], path: str | os.PathLike[str] = "state") -> None:
        """Continue from `state_dict()`. Raises StateError, before anything is changed, if it belongs to another run."""
        self._steps.forget()
        run_state.restore(self._parts(), state, path)
        self._unsaved_best = False
        if self.checkpoints is not None:
            self.checkpoints.continue_from(self.step)
        if self._progress.trained is not None or (self.position is not None and self.position.in_epoch):
            self.train_metrics.warn_of_lost(path)
        self._settings.warn_of_others(path)

    def _parts(self) -> run_state.RunParts:
        kinds = {"optimizer": self.optimizer, "scheduler": self.scheduler, "scaler": self.precision.scaler}
        shared: dict[str, run_state.Stateful] = {
            "accumulator": self.accumulator,
            "callbacks": self.callbacks,
            "progress": self._progress,
            "best": self.best,
            "settings": self._settings,
        }
        own: dict[str, run_state.OfRank | None]
        own = {"position": self.position, "totals": self.totals, "metrics": self.train_metrics}
        return run_state.RunParts(unwrap(self.model), kinds, shared, own, self.ranks)
