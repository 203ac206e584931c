"""One optimizer step: its micro-batches, their gradients, the step. See Note [Weights] in accumulation.py."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from largeds_native.errors import ArgumentError, NonFiniteError
from largeds_native.trainer import batches
from largeds_native.trainer.buffers import Buffers
from largeds_native.trainer.ranks import set_sync, stand_in
from largeds_native.trainer.weights import check_one_number

if TYPE_CHECKING:
    from largeds_native.trainer.accumulation import Accumulator


@dataclass
class StepResult:
    """What one optimizer step was: `loss` is the weighted mean over this rank's samples, `weight` what they weigh."""

    loss: float
    weight: float
    samples: int
    gradient_norm: float
    stepped: bool  # False: skipped, because a loss or gradient was not finite


class Group:
    """The micro-batches of one optimizer step; made by `Accumulator.groups`."""

    def __init__(
        self,
        accumulator: Accumulator,
        pairs: list[tuple[Any, Any]],
        source: Iterator[Any],
        reduce_after: bool,
        start: int,
    ) -> None:
        self._accumulator, self._pairs, self._source = accumulator, pairs, source
        self._reduce_after, self._start = reduce_after, start
        self._empty = not pairs
        # a batch of NaN would stay in BatchNorm's statistics, though its step is skipped
        self._buffers = Buffers(accumulator.model) if accumulator.on_nonfinite == "skip" else None
        self._reset()
        if self._empty and accumulator.ddp is not None:
            stand_in(accumulator.ddp)

    def _reset(self) -> None:
        self.samples = 0  # given out so far
        self._total: float | Tensor = 0.0
        self._current: tuple[float | Tensor, int] | None = None
        self._losses: list[Tensor] = []  # detached; one a micro-batch
        self._weights: list[float | Tensor] = []
        self._ranges: list[tuple[int, int]] = []  # first and last sample of each of them, counted in the epoch

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """The micro-batches, on the device; the next is made when the one before has gone through `backward`."""
        accumulator = self._accumulator
        for pair, last_batch in self._loader_batches():
            count = batches.length(pair)
            size = accumulator.micro_batch or count
            for first in range(0, count, size):
                taken = min(size, count - first)
                part = pair if taken == count else batches.narrow(pair, first, taken)
                if accumulator.ddp is not None:
                    last = last_batch and first + taken == count
                    set_sync(accumulator.ddp, last and not self._reduce_after)
                weight = accumulator.weigh(*part)
                self._current = (weight, taken)
                self.samples += taken
                yield batches.to_device(part, accumulator.device)
                del part
                if self._current is not None:
                    raise ArgumentError("each micro-batch needs a group.backward(loss) before the next one")
            del pair

    def _loader_batches(self) -> Iterator[tuple[tuple[Any, Any], bool]]:
        """The group's loader batches, each with whether it is the last, and never one past the group.

        So between two groups the loader stands exactly where the step does, and its state can be saved. DDP must know
        the last batch before its backward: for it alone, one batch is fetched ahead, and two are in memory.
        """
        if self._accumulator.hold or self._empty:
            for i, held in enumerate(self._pairs):
                yield held, i + 1 == len(self._pairs)
            return
        ahead = self._accumulator.ddp is not None and not self._reduce_after
        pair: tuple[Any, Any] | None = self._pairs.pop()
        remaining = self._accumulator.accumulate
        while pair is not None:
            remaining -= 1
            upcoming = self._fetch() if ahead and remaining else None
            yield pair, ahead and upcoming is None
            del pair  # the batch's memory is free before the next one comes
            pair = upcoming if ahead or not remaining else self._fetch()
            del upcoming

    def _fetch(self) -> tuple[Any, Any] | None:
        for batch in self._source:
            return batches.split_pair(batch)
        return None

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of the micro-batch that was given out last; `loss` is one number."""
        if self._current is None:
            raise ArgumentError("backward() comes once for each micro-batch that the group gives")
        check_one_number(loss)
        weight, count = self._current
        if not (isinstance(weight, float) and weight == 0 and self._may_leave_out()):
            loss.backward(self._accumulator.gradient_of(loss, weight))  # type: ignore[no-untyped-call]
            self._losses.append(loss.detach())
            self._weights.append(weight)
            last = self._start + self.samples - 1
            self._ranges.append((last - count + 1, last))
        self._total = self._total + weight
        self._current = None

    def _may_leave_out(self) -> bool:
        """A mean over nothing is 0 / 0; without a weight it adds nothing, unless DDP waits for its backward."""
        ddp = self._accumulator.ddp
        return ddp is None or not ddp.require_backward_grad_sync

    def restart(self, micro_batch: int) -> None:
        """Begin this group again with another micro-batch size, its gradients gone. Needs `hold`."""
        if not self._accumulator.hold:
            raise ArgumentError("only an accumulator with hold=True keeps a group's batches")
        self._accumulator.micro_batch = micro_batch
        self._accumulator.optimizer.zero_grad(set_to_none=True)
        self._reset()

    def step(self) -> StepResult:
        """Weigh, clip, check and step; then clear the gradients."""
        accumulator = self._accumulator
        self._pairs.clear()
        if self._reduce_after:
            accumulator.ranks.sum_gradients(accumulator.parameters)
        gradients = [p.grad for p in accumulator.parameters if p.grad is not None]
        scaler = accumulator.scaler if gradients else None  # a GradScaler refuses a step without gradients
        if scaler is not None:
            scaler.unscale_(accumulator.optimizer)
        self._apply_total(gradients)
        norm = _norm(gradients)
        losses, weights, gradient_norm = self._read(norm)
        total = sum(weights)
        by_weight = accumulator.reduction == "mean"
        mean = sum(v * (w if by_weight else 1.0) for v, w in zip(losses, weights, strict=True) if w or not by_weight)
        result = StepResult(mean / total if total else 0.0, total, self.samples, gradient_norm, True)
        try:
            result.stepped = self._is_finite(losses, weights, gradient_norm)
            if result.stepped:
                if accumulator.clip_grad_norm is not None and gradient_norm > accumulator.clip_grad_norm:
                    torch._foreach_mul_(gradients, accumulator.clip_grad_norm / (gradient_norm + 1e-6))
                result.stepped = self._optimizer_step(scaler, gradient_norm)
        finally:
            if scaler is not None:
                scaler.update()
            accumulator.optimizer.zero_grad(set_to_none=True)
        accumulator.steps += 1
        if not result.stepped and self._buffers is not None:
            self._buffers.restore()
        return result

    def _optimizer_step(self, scaler: torch.amp.GradScaler | None, norm: float) -> bool:
        """Step; a GradScaler leaves the step out when the scaled gradients overflowed."""
        if scaler is None:
            self._accumulator.optimizer.step()
            return True
        scaler.step(self._accumulator.optimizer)
        return math.isfinite(norm)

    def _apply_total(self, gradients: list[Tensor]) -> None:
        """Multiply by nominal / total, and undo DDP's mean over the ranks."""
        accumulator = self._accumulator
        factor: float | Tensor = 1.0
        if accumulator.divides:
            total = self._total
            if accumulator.ranks.world_size > 1:
                (total,) = accumulator.ranks.sum(float(total))
            if isinstance(total, Tensor) or total > 0:
                factor = (accumulator.nominal or 1.0) / total
        if accumulator.ranks.world_size > 1 and not self._reduce_after:
            factor = factor * accumulator.ranks.world_size
        if gradients and not (isinstance(factor, float) and factor == 1.0):
            torch._foreach_mul_(gradients, factor)

    def _read(self, norm: Tensor | None) -> tuple[list[float], list[float], float]:
        """The losses, weights and gradient norm as numbers, waiting once for the device."""
        values = self._losses + ([] if norm is None else [norm])
        values += [w for w in self._weights if isinstance(w, Tensor)]
        numbers: list[float]
        if all(value.device.type == "cpu" for value in values):
            numbers = [value.item() for value in values]
        else:
            numbers = torch.stack([value.reshape(()).double() for value in values]).tolist()
        losses = numbers[: len(self._losses)]
        rest = iter(numbers[len(self._losses) :])
        gradient_norm = 0.0 if norm is None else next(rest)
        weights = [next(rest) if isinstance(w, Tensor) else float(w) for w in self._weights]
        return losses, weights, gradient_norm

    def _is_finite(self, losses: list[float], weights: list[float], norm: float) -> bool:
        """Whether every loss and the gradient are finite, on all ranks; else raise, if told to.

        Infinite gradients under a GradScaler are its way to find the scale: they are left to it.
        """
        accumulator = self._accumulator
        # a mean over nothing is 0 / 0, and weighs nothing
        bad_loss = [i for i, value in enumerate(losses) if not math.isfinite(value) and weights[i] != 0]
        bad_gradient = not math.isfinite(norm) and accumulator.scaler is None
        (anywhere,) = accumulator.ranks.max(float(bool(bad_loss) or bad_gradient))
        if not anywhere:
            return True
        if accumulator.on_nonfinite == "raise":
            raise NonFiniteError(self._describe(losses, bad_loss, norm))
        return False

    def _describe(self, losses: list[float], bad: list[int], norm: float) -> str:
        first, last = self._start, self._start + self.samples - 1
        where = f"at step {self._accumulator.steps}, samples {first} to {last} of this epoch"
        if not bad:
            return f"the gradient is not finite (norm {norm}) {where}, though every loss on this rank is"
        begin, end = self._ranges[bad[0]]
        return f"the loss is {losses[bad[0]]} for samples {begin} to {end} of this epoch, {where}"


def _norm(gradients: list[Tensor]) -> Tensor | None:
    if not gradients:
        return None
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    return norm
