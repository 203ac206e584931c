"""The optimizer steps of an Accumulator: from a group's gradients to new weights.

Note [A step later]
On a CUDA device a step's numbers are read when the next group's backward has been queued, before its optimizer is
called (`OptimizerSteps.settle`; see Note [Waiting] in readback.py). Until then a flag on the device, whether a number
is not finite, keeps the step from harming the weights: see Note [Guard] in gradients.py. So an error comes before a
second step could follow, and the weights are finite. Where the flag can't do that exactly ("skip", or a GradScaler,
with an optimizer that is not fused), it is read at once, and this is the step's only wait.

Note [Norm]
The norm of the gradient is also a check of it, and the CPU's steps always compute it. On a CUDA device it takes Python
longer than the rest of a small model's step, since each parameter has a norm of its own first. So there the gradients
are checked in one call, and the norm is left out where the step does not clip and nobody can read it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from largeds_native.errors import NonFiniteError
from largeds_native.trainer import gradients, readback
from largeds_native.trainer.gradient_sync import GradientSync
from largeds_native.trainer.micro_batches import MicroBatches
from largeds_native.trainer.ranks import Ranks
from largeds_native.trainer.step_result import StepResult
from largeds_native.trainer.unread_step import UnreadStep
from largeds_native.trainer.weighting import Weighting

# How often a step asks whether the device has checked its gradients, before it guards the weights against them. To ask
# takes half a microsecond, and to guard 62 gradients 190 (H100). A device that waits for Python has mostly checked
# them at the first question, and one that is busy has not at the last.
POLLS = 20


class OptimizerSteps:
    """Makes the steps of one optimizer.

    Attributes:
        count: how many there were.
        pinned: memory for numbers that come from the device.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        weighting: Weighting,
        sync: GradientSync,
        ranks: Ranks,
        clip_grad_norm: float | None,
        on_nonfinite: str,
    ) -> None:
        self.optimizer, self.weighting, self.sync, self.ranks = optimizer, weighting, sync, ranks
        self.clip_grad_norm, self.on_nonfinite = clip_grad_norm, on_nonfinite
        self.count = 0
        self.pinned = readback.PinnedBuffers()
        self._unread: UnreadStep | None = None  # the last step, if its numbers are still on the device
        self._one = torch.ones(())  # on the device of the last step

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The optimizer's parameters, those of `add_param_group` too."""
        return gradients.all_of(self.optimizer)

    def settle(self) -> None:
        """Wait for the last step's numbers, and raise its NonFiniteError."""
        step, self._unread = self._unread, None
        if step is None:
            return
        try:
            step.check()
        except NonFiniteError:
            self.optimizer.zero_grad(set_to_none=True)  # of the group after it
            self.count -= 1
            raise

    def run(self, group: MicroBatches, *, reduce_after: bool, norm_is_read: bool) -> StepResult:
        """The step of this group. `reduce_after`: the gradients were not synced in the backwards."""
        self.settle()
        parameters = self.parameters
        if reduce_after:
            self.ranks.sum_gradients(parameters)
        found = self.sync.local([grad for p in parameters if (grad := p.grad) is not None])
        scaler = self.weighting.scaler if found else None  # a GradScaler refuses a step without gradients
        if scaler is not None:
            scaler.unscale_(self.optimizer)
        weights = group.read_weights()
        total = self._apply_total(found, sum(weights), synced=not reduce_after)
        nothing = self.weighting.divides and total == 0  # a mean over nothing has no gradient
        try:
            if self._may_read_later(group, found, scaler):
                result = self._step_by_flag(group, found, scaler, nothing, norm_is_read)
            else:
                result = self._step_by_numbers(group, found, scaler, nothing, weights)
        finally:
            if scaler is not None:
                scaler.update()
            self.optimizer.zero_grad(set_to_none=True)
        self.count += 1
        return result

    def _apply_total(self, found: list[Tensor], total: float, *, synced: bool) -> float:
        """Multiply by nominal / total, and undo the mean over the ranks. Returns the total weight of all ranks."""
        factor = 1.0
        if self.weighting.divides:
            if self.ranks.world_size > 1:
                (total,) = self.ranks.sum(total)
            if total != 0:
                factor = (self.weighting.nominal or 1.0) / total
        if synced and self.sync.divisor > 1:
            factor = factor * self.sync.divisor
        if factor != 1.0:
            gradients.multiply(found, factor)
        return total

    # ---- the step of the CPU: first the numbers, then the optimizer -----------------------------------------------

    def _step_by_numbers(
        self,
        group: MicroBatches,
        found: list[Tensor],
        scaler: torch.amp.GradScaler | None,
        nothing: bool,
        weights: list[float],
    ) -> StepResult:
        losses, norm = _read(group.losses, self.sync.norm(found))
        loss, weight = self.weighting.mean_loss(losses, weights)
        stepped = self._is_finite(group, losses, weights, norm)
        if stepped and not nothing:
            if self.clip_grad_norm is not None:
                gradients.clip(found, norm, self.clip_grad_norm)
            stepped = self._call_optimizer(scaler, norm)
        if not stepped and group.buffers is not None:
            group.buffers.restore()
        return StepResult(loss, weight, group.samples, norm, stepped)

    def _is_finite(self, group: MicroBatches, losses: list[float], weights: list[float], norm: float) -> bool:
        """Whether every loss and the gradient are finite on all ranks; raises with on_nonfinite="raise".

        Infinite gradients under a GradScaler don't count: it finds its scale by them, and skips the step itself.
        """
        bad_gradient = not math.isfinite(norm) and self.weighting.scaler is None
        wrong = bad_gradient or bool(group.bad_losses(losses, weights))
        (anywhere,) = self.ranks.max(float(wrong))
        if not anywhere:
            return True
        if self.on_nonfinite != "skip":
            raise NonFiniteError(group.describe(losses, weights, norm, self.count))
        return False

    def _call_optimizer(self, scaler: torch.amp.GradScaler | None, norm: float) -> bool:
        """Whether the optimizer stepped: a GradScaler skips the step if the scaled gradients overflowed."""
        if scaler is None:
            self.optimizer.step()
            return True
        if not math.isfinite(norm):
            # not left to the scaler: a fused SGD's first step would leave momentum that nobody has written
            return False
        scaler.step(self.optimizer)
        return True

    # ---- the step of a device: the numbers are sent to the host behind it ---------------------------------------

    def _may_read_later(self, group: MicroBatches, found: list[Tensor], scaler: torch.amp.GradScaler | None) -> bool:
        """Whether the optimizer may be called before the numbers are known: see Note [A step later]."""
        devices = {value.device for value in (*group.losses, *found[:1])}
        if not devices or not all(map(readback.defers, devices)):
            return False
        if self.on_nonfinite == "raise" and scaler is None:
            return True
        return self.on_nonfinite != "raise_at_once" and gradients.can_skip_by_flag(self.optimizer)

    def _step_by_flag(
        self,
        group: MicroBatches,
        found: list[Tensor],
        scaler: torch.amp.GradScaler | None,
        nothing: bool,
        norm_is_read: bool,
    ) -> StepResult:
        """The optimizer is called, and a flag on the device says whether it may change anything."""
        # where the ranks compute a norm together, all of them do
        needs_norm = norm_is_read or self.clip_grad_norm is not None or scaler is not None or self.sync.in_step
        norm = self.sync.norm(found) if needs_norm else None
        wrong, no_step = self._flags(group, found, norm, scaler)
        values = _stack([*group.losses, *([] if norm is None else [norm]), wrong])
        numbers = readback.Readback(values, self.pinned)
        if not nothing:
            if self.clip_grad_norm is not None and norm is not None:
                gradients.clip(found, norm, self.clip_grad_norm)
            if gradients.can_skip_by_flag(self.optimizer):
                gradients.step_unless(no_step, self.optimizer)
            else:
                if not _known_to_be_right(numbers):
                    gradients.zero_if(no_step, found)
                self.optimizer.step()
        if group.buffers is not None:
            group.buffers.restore_if(no_step)
            group.buffers = None
        known_norm = None if norm is not None else math.nan if found else 0.0
        skips = self.on_nonfinite == "skip"
        self._unread = UnreadStep(self.count, group, self.weighting, numbers, known_norm, skips)
        return StepResult.later(group.samples, self._unread, self.on_nonfinite == "raise" and scaler is None)

    def _flags(
        self, group: MicroBatches, found: list[Tensor], norm: Tensor | None, scaler: torch.amp.GradScaler | None
    ) -> tuple[Tensor, Tensor]:
        """On the device: whether a number is not finite that should be, on any rank; whether the optimizer must not
        step, which overflown gradients of a GradScaler forbid, too."""
        checked = group.counted_losses()
        if scaler is None:
            checked += found if norm is None else [norm]
        if self._one.device != (device := (group.losses or found)[0].device):
            self._one = torch.ones((), device=device)
        wrong = self.ranks.max_of(gradients.any_nonfinite(checked, self._one))
        if scaler is None or norm is None:
            return wrong, wrong
        return wrong, torch.maximum(wrong, gradients.any_nonfinite([norm], self._one))


def _known_to_be_right(numbers: readback.Readback) -> bool:
    """Whether the flag, the last of the numbers, is there already, and 0. Asks a few times, and never waits."""
    for _ in range(POLLS):
        if numbers.ready:
            return numbers.read()[-1] == 0
    return False


def _read(losses: list[Tensor], norm: Tensor | None) -> tuple[list[float], float]:
    """The losses and the norm as numbers, with one synchronisation with the device."""
    values = losses + ([] if norm is None else [norm])
    numbers: list[float]
    if len({value.device for value in values}) > 1 or all(value.device.type == "cpu" for value in values):
        numbers = [value.item() for value in values]
    else:
        numbers = _stack(values).tolist()
    return numbers[: len(losses)], 0.0 if norm is None else numbers[-1]


def _stack(values: list[Tensor]) -> Tensor:
    """Numbers in one tensor of one dimension; of several dtypes, as float64."""
    if len({value.dtype for value in values}) > 1:
        values = [value.double() for value in values]
    return torch.stack([value.reshape(()) if value.ndim else value for value in values]) if values else torch.empty(0)
