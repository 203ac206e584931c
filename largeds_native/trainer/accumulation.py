"""Gradient accumulation in which every sample of a step has the same weight. Usable in a hand-written loop:

    accumulator = Accumulator(model, optimizer, accumulate=8, micro_batch=32)
    for group in accumulator.groups(loader):              # one optimizer step each
        for images, labels in group:                      # micro-batches: views of the loader's batches
            group.backward(criterion(model(images), labels))
        group.step()

Note [Weights]
The gradient of a step is sum_i w_i grad l_i / sum_i w_i over all samples of the group and all ranks. The sum of weights
is known only after the group's last batch (its size may differ, the data may end, ranks may have different counts).
Holding the group's batches until then would cost memory, so each micro-batch is scaled by w / nominal, where `nominal`
is the weight of a full group on one rank, and before the step the gradients are multiplied once by nominal / total. In
a full group that factor is 1, and the pass over the gradients is skipped. Dividing by the nominal weight immediately,
not only at the end, keeps the gradients in the range of those of the full batch, which float16 needs.

Note [Ranks]
With DistributedDataParallel only the last micro-batch of a group syncs, so there is one all-reduce of gradients a step,
overlapped with that backward. At the start of a group the ranks tell each other whether they have data (24 bytes over
gloo). If a rank has no data left, or may have to repeat the group (`hold`), the group accumulates without DDP's
reducer, and one all-reduce sums the gradients afterwards. So a rank that fails early cannot leave others blocked in
backward(). With FSDP2 each forward and backward communicates, so all ranks run equally many micro-batches: see
lockstep.py, and Note [Sharded gradients] in sharding.py.

Note [A step later]
On a CUDA device a step's numbers are read when the next group's backward has been queued, before its optimizer is
called (`Accumulator.settle`; see Note [Waiting] in readback.py). Until then a flag on the device, whether a number is
not finite, keeps the step from harming the weights: see Note [Guard] in gradients.py. So an error comes before a second
step could follow, and the weights are finite. Where the flag can't do that exactly ("skip", or a GradScaler, with an
optimizer that is not fused), it is read at once, and this is the step's only wait.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Iterable, Iterator
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from largeds_native.errors import ArgumentError, NonFiniteError
from largeds_native.trainer import batches, gradients, graphs, readback
from largeds_native.trainer.buffers import BufferSnapshot
from largeds_native.trainer.counts import check_count
from largeds_native.trainer.lockstep import Lockstep, Pair, count
from largeds_native.trainer.ranks import Ranks
from largeds_native.trainer.sharding import gradient_sync
from largeds_native.trainer.step_result import Numbers, StepResult
from largeds_native.trainer.weights import Counted, Weight, check_scalar_loss

ON_NONFINITE = ("raise", "raise_at_once", "skip")


class Accumulator:
    """Groups a loader's batches into optimizer steps.

    Args:
        model: the model; with several processes, wrapped in DistributedDataParallel, or sharded by `fully_shard`
            (FSDP2, torch 2.6), also with a mesh of two dimensions (HSDP).
        optimizer: stepped once per group.
        accumulate: number of loader batches in a group.
        micro_batch: number of samples in a micro-batch; None makes each loader batch one micro-batch.
        reduction: "mean" if the loss given to `backward` is a mean over the micro-batch, "sum" if it is a sum. The
            gradient is that of the same loss over the full batch: a "sum" is divided only if `weight` is given.
        weight: `weight(inputs, targets)` returns the weight of a micro-batch, the denominator of its mean (number of
            tokens, sum of a mask), as a number or a tensor of one element; None: its number of samples.
        device: micro-batches are moved to it; None leaves them where they are.
        scaler: a `torch.amp.GradScaler` for float16.
        clip_grad_norm: the largest norm of the whole gradient, applied once per step, after unscaling.
        on_nonfinite: what follows a loss or gradient that is infinite or NaN. "raise": a NonFiniteError that names the
            samples; on a CUDA device it comes in the next step, or when the loader ends, and nothing waits: what was
            wrong has not reached the weights, but an optimizer that is not fused has made a step of gradient zero (its
            momentum and weight decay). "raise_at_once": before the optimizer is called; on a CUDA device each step
            waits for it. "skip": the step is left out. With a fused optimizer of torch (`fused=True`) nothing waits;
            with any other, each step waits for the device.
        sync: of a model that `fully_shard` has sharded: "each" micro-batch's gradient is reduce-scattered, which is the
            default, or only the "last" one's: less traffic, and the whole gradients in memory until then.
        hold: fetch a group's batches before the first forward and keep them, so that `Group.restart` can repeat it.

    The parameters are those that the optimizer has at each step. A group whose samples all weigh 0
    moves nothing: its step counts, and the optimizer is not called.

    With FSDP2, all ranks run equally many micro-batches. A rank that has fewer gets stand-ins from its group
    (`Group.stand_in`): run forward and `backward` as for any other, and leave their outputs out of metrics.

    Raises ArgumentError for an argument out of range, an optimizer whose step needs a closure (LBFGS), a
    DistributedDataParallel with `static_graph`, and a model that is sharded in another way than by `fully_shard` on the
    whole of it.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        accumulate: int = 1,
        micro_batch: int | None = None,
        reduction: str = "mean",
        weight: Weight | None = None,
        device: torch.device | None = None,
        scaler: torch.amp.GradScaler | None = None,
        clip_grad_norm: float | None = None,
        on_nonfinite: str = "raise",
        sync: str | None = None,
        hold: bool = False,
        ranks: Ranks | None = None,
    ) -> None:
        for name, value in (("accumulate", accumulate), ("micro_batch", micro_batch)):
            if value is not None:
                check_count(name, value)
        if reduction not in ("mean", "sum"):
            raise ArgumentError(f"expected reduction 'mean' or 'sum', found {reduction!r}")
        if on_nonfinite not in ON_NONFINITE:
            raise ArgumentError(f"expected on_nonfinite 'raise', 'raise_at_once' or 'skip', found {on_nonfinite!r}")
        if clip_grad_norm is not None and not (isinstance(clip_grad_norm, Real) and clip_grad_norm > 0):
            raise ArgumentError(f"expected clip_grad_norm above 0, found {clip_grad_norm!r}")
        self.model, self.optimizer = model, optimizer
        self.accumulate, self.micro_batch, self.hold = accumulate, micro_batch, hold
        # a sum is not divided
        self.reduction, self.weight = reduction, Counted() if weight is None and reduction == "mean" else weight
        self.device, self.scaler = device, scaler
        self.clip_grad_norm, self.on_nonfinite = clip_grad_norm, on_nonfinite
        self.ranks = ranks or Ranks()
        self.sync = gradient_sync(model, optimizer, self.ranks, sync)
        check_needs_no_closure(optimizer)
        self._known = {id(p) for p in self.parameters}
        self.nominal: float | None = None  # weight of a full group on one rank; see Note [Weights]
        self.steps = 0
        self._gradient: tuple[Any, Tensor] = (None, torch.empty(0))
        self._unread: Group | None = None  # the last step, if its numbers are still on the device
        self._buffers = readback.PinnedBuffers()

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The optimizer's parameters, those of `add_param_group` too."""
        return gradients.all_of(self.optimizer)

    def groups(self, loader: Iterable[Any], *, start: int = 0) -> Iterator[Group]:
        """The groups of one pass over the loader; the last may be partial. `start`: samples seen before it."""
        self.optimizer.zero_grad(set_to_none=True)  # gradients of an interrupted group, or of the caller
        self.sync.forget()
        self.settle()
        lockstep = Lockstep(self.ranks, self.model, self.device) if self.sync.in_step else None
        iterator = iter(loader)
        while True:
            pairs, taken = self._fetch_first(iterator)
            if self.nominal is None:
                self._agree_on_nominal(pairs)
            with_batches, with_samples = self.ranks.sum(float(bool(taken)), float(bool(pairs)))
            if not with_batches:
                self.settle()
                return
            self._take_new_parameters()
            reduce_after = self.sync.reduces_after(self.hold, int(with_samples))
            group = Group(self, pairs, iterator, reduce_after, start, self.accumulate - taken, lockstep)
            del pairs
            yield group
            start += group.samples

    def settle(self) -> None:
        """Wait for the last step's numbers, and raise its NonFiniteError. `groups` and `Group.step` call it; before
        weights are saved or evaluated within an epoch, call it yourself."""
        group, self._unread = self._unread, None
        if group is None:
            return
        try:
            group.check()
        except NonFiniteError:
            self.optimizer.zero_grad(set_to_none=True)  # of the group after it
            self.steps -= 1
            raise

    def _fetch_first(self, source: Iterator[Any]) -> tuple[list[tuple[Any, Any]], int]:
        """A group's first batch that has samples, or with `hold` all of them, and the number of batches fetched."""
        pairs: list[tuple[Any, Any]] = []
        taken = 0
        for batch in itertools.islice(source, self.accumulate):
            taken += 1
            pair = batches.split_pair(batch)
            if batches.length(pair):
                pairs.append(pair)
                if not self.hold:
                    break
        return pairs, taken

    def _take_new_parameters(self) -> None:
        """Parameters that came to the optimizer since the last step: they may hold gradients of earlier groups, and
        may not be among those that are synced."""
        parameters = self.parameters
        new = [p for p in parameters if id(p) not in self._known]
        for parameter in new:
            parameter.grad = None
        self._known.update(id(p) for p in new)
        self.sync.check(parameters)

    def weigh(self, inputs: Any, targets: Any) -> float | Tensor:
        """The weight of these samples."""
        if self.weight is None:
            return float(batches.length((inputs, targets)))
        weight = self.weight(inputs, targets)
        # on a GPU it stays a tensor: reading its value would synchronise with the GPU at every micro-batch
        if isinstance(weight, Tensor) and (readback.defers(weight.device) or weight.device.type != "cpu"):
            return weight.detach().double()
        return float(weight)

    def gradient_of(self, loss: Tensor, weight: float | Tensor) -> Tensor:
        """The gradient passed to `loss.backward()`: the micro-batch's weight / the nominal one; see Note [Weights]."""
        factor = (weight if self.reduction == "mean" else 1.0) / (self.nominal or 1.0)
        if isinstance(factor, Tensor):
            gradient = factor.to(loss.dtype).reshape(loss.shape)
        else:
            key = (factor, loss.dtype, loss.device, loss.shape)
            if self._gradient[0] != key:  # the same number for most micro-batches
                self._gradient = (key, torch.full_like(loss, factor, requires_grad=False))
            gradient = self._gradient[1]
        return self.scaled(gradient)

    def scaled(self, gradient: Tensor) -> Tensor:
        """Multiplied by the scale of a GradScaler."""
        return gradient if self.scaler is None else self.scaler.scale(gradient)

    @property
    def divides(self) -> bool:
        """Whether the step's gradient is divided by the total weight, which is False for a plain sum."""
        return self.reduction == "mean" or self.weight is not None

    def state_dict(self) -> dict[str, Any]:
        """The nominal weight, the micro-batch size and the number of steps, as plain numbers."""
        return {"nominal": self.nominal, "micro_batch": self.micro_batch, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self.nominal, self.steps = state["nominal"], state["steps"]
        if self.hold:
            self.micro_batch = state["micro_batch"]

    def _agree_on_nominal(self, pairs: list[tuple[Any, Any]]) -> None:
        """Sets `nominal` to `accumulate` times the weight of the run's first batch: the same number on every rank."""
        size = batches.length(pairs[0]) if pairs else 0
        first = float(self.weigh(*pairs[0])) if pairs else 0.0
        nominal, largest = self.ranks.max(self.accumulate * first, float(size))
        if not largest:
            return  # no rank has a sample
        if self.micro_batch is not None and self.micro_batch > largest and not self.hold:
            raise ArgumentError(f"micro_batch={self.micro_batch} is larger than the loader's batch of {largest:.0f}")
        self.nominal = nominal if self.divides and nominal > 0 else 1.0
        if self.hold and self.micro_batch is None:
            self.micro_batch = int(largest)


class Group:
    """The micro-batches of one optimizer step, from `Accumulator.groups`. See Note [Weights]."""

    def __init__(
        self,
        accumulator: Accumulator,
        pairs: list[tuple[Any, Any]],
        source: Iterator[Any],
        reduce_after: bool,
        start: int,
        remaining: int,
        lockstep: Lockstep | None = None,
    ) -> None:
        self._accumulator, self._pairs, self._source = accumulator, pairs, source
        self._reduce_after, self._start = reduce_after, start
        self._remaining = remaining  # batches yet to fetch
        self._lockstep = lockstep
        self._empty = not pairs
        # when a step is skipped, a batch of NaN must not stay in BatchNorm's statistics
        self._buffers = BufferSnapshot(accumulator.model) if accumulator.on_nonfinite == "skip" else None
        self._reset()
        if self._empty:
            accumulator.sync.join_without_samples()

    def _reset(self) -> None:
        self.samples = 0  # yielded so far
        self.stand_in = False  # the micro-batch just yielded counts nothing; see Accumulator
        self._total: float | Tensor = 0.0
        self._current: tuple[float | Tensor, int] | None = None
        self._losses: list[Tensor] = []  # detached; one per micro-batch
        self._weights: list[float | Tensor] = []
        self._arriving: list[readback.Readback] = []  # the weights that are tensors
        self._numbers: readback.Readback | None = None  # the losses and the norm
        self._ranges: list[tuple[int, int]] = []  # first and last sample of each micro-batch, as indices in the epoch

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """Yields micro-batches on the device; call `backward` for each before the next one."""
        accumulator = self._accumulator
        for pair, micro_batches, last_batch in self._in_step():
            length = 0 if pair is None else batches.length(pair)
            size = accumulator.micro_batch or length
            for number in range(micro_batches):
                last = last_batch and number + 1 == micro_batches
                accumulator.sync.before_micro_batch(last, self._reduce_after)
                taken = min(size, length - number * size)
                if pair is None or taken <= 0:
                    yield from self._nothing()
                    continue
                part = pair if taken == length else batches.narrow(pair, number * size, taken)
                self._current = (self._weigh(part), taken)
                self.samples += taken
                graphs.begin()
                yield batches.to_device(part, accumulator.device)
                del part
                self._check_backward_was_called()
            del pair

    def _nothing(self) -> Iterator[Pair]:
        """A micro-batch for the collective calls of the other ranks alone."""
        assert self._lockstep is not None
        self._current, self.stand_in = (0.0, 0), True
        yield self._lockstep.stand_in()
        self._check_backward_was_called()

    def _check_backward_was_called(self) -> None:
        if self._current is not None:
            raise ArgumentError("each micro-batch needs a group.backward(loss) before the next one")

    def _in_step(self) -> Iterator[tuple[Pair | None, int, bool]]:
        """Yields (batch, number of micro-batches, whether it is the group's last). Where the ranks run in step, the
        number is that of the rank with most, and a rank without a batch has None."""
        size = self._accumulator.micro_batch
        if self._lockstep is not None:
            yield from self._lockstep.batches((pair for pair, _ in self._loader_batches()), size)
            return
        for pair, last in self._loader_batches():
            yield pair, count(pair, size), last
            del pair

    def _weigh(self, part: tuple[Any, Any]) -> float | Tensor:
        """A weight on a device is sent to the host before the forward is queued, so that it is there at the step."""
        weight = self._accumulator.weigh(*part)
        if isinstance(weight, Tensor):
            self._arriving.append(readback.Readback(weight.reshape(1), self._accumulator._buffers))
        return weight

    def _loader_batches(self) -> Iterator[tuple[Pair, bool]]:
        """Yields (batch, whether it is the group's last), and never fetches a batch past the group.

        So between two groups the loader's position is exactly that of the step, and its state can be saved. DDP must
        know before its backward that a batch is the last: for DDP only, one batch is fetched ahead, so that two are in
        memory. (Lockstep does the same for FSDP2.)
        """
        if self._accumulator.hold or self._empty:
            for i, held in enumerate(self._pairs):
                yield held, i + 1 == len(self._pairs)
            return
        ahead = self._lockstep is None and self._accumulator.sync.looks_ahead(self._reduce_after)
        pair: Pair | None = self._pairs.pop()
        while pair is not None:
            upcoming = self._fetch() if ahead else None
            yield pair, ahead and upcoming is None
            del pair  # frees the batch's memory before the next one is fetched
            pair = upcoming if ahead else self._fetch()
            del upcoming

    def _fetch(self) -> tuple[Any, Any] | None:
        """The group's next batch that has samples."""
        for batch in itertools.islice(self._source, self._remaining):
            self._remaining -= 1
            pair = batches.split_pair(batch)
            if batches.length(pair):
                return pair
        return None

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of the last yielded micro-batch; `loss` is a tensor of one element."""
        if self._current is None:
            raise ArgumentError("backward() must be called exactly once for each micro-batch of the group")
        check_scalar_loss(loss)
        accumulator = self._accumulator
        if isinstance(accumulator.weight, Counted) and not self.stand_in:
            accumulator.weight.look_at(loss)
        weight, samples = self._current
        if isinstance(weight, float) and weight == 0:  # the loss is 0 / 0 and adds nothing, but others may wait for it
            if not accumulator.sync.may_skip_backward():
                accumulator.sync.backward_of_nothing(loss, accumulator.scaled(torch.zeros_like(loss)))
        else:
            loss.backward(accumulator.gradient_of(loss, weight))  # type: ignore[no-untyped-call]
            self._losses.append(loss.detach().clone())  # a CUDA graph's next run writes over its outputs
            self._weights.append(weight)
            last = self._start + self.samples - 1
            self._ranges.append((last - samples + 1, last))
        self._total = self._total + weight
        accumulator.sync.after_backward()
        self._current = None
        if self.stand_in and self._lockstep is not None:
            self._lockstep.done()
            self.stand_in = False

    def largest(self) -> Pair | None:
        """Of the batches that are held, the micro-batch with the most elements; None: there are none."""
        size = self._accumulator.micro_batch
        firsts = [
            batches.narrow(pair, 0, min(size or length, length))
            for pair in self._pairs
            if (length := batches.length(pair))
        ]
        return max(firsts, key=batches.elements, default=None)

    def restart(self, micro_batch: int) -> None:
        """Restart this group with another micro-batch size and without its gradients. Needs `hold`."""
        if not self._accumulator.hold:
            raise ArgumentError("only an accumulator with hold=True keeps a group's batches")
        self._accumulator.micro_batch = micro_batch
        self._accumulator.optimizer.zero_grad(set_to_none=True)
        self._accumulator.sync.forget()
        self._reset()

    def step(self) -> StepResult:
        """Divide by the total weight, clip, check for NaN, step, and clear the gradients. If the total weight is 0, the
        optimizer is not called. On a CUDA device the numbers are read later; see Note [A step later].

        Raises NonFiniteError for this step, or on a CUDA device with on_nonfinite="raise" for the one before it."""
        accumulator = self._accumulator
        accumulator.settle()
        self._pairs.clear()
        parameters = accumulator.parameters
        if self._reduce_after:
            accumulator.ranks.sum_gradients(parameters)
        found = accumulator.sync.local(grad for p in parameters if (grad := p.grad) is not None)
        scaler = accumulator.scaler if found else None  # a GradScaler refuses a step without gradients
        if scaler is not None:
            scaler.unscale_(accumulator.optimizer)
        weights = self._read_weights()
        self._apply_total(found)
        norm = accumulator.sync.norm(found)
        self._number = accumulator.steps
        try:
            if self._may_read_later(norm, scaler):
                result = self._step_by_flag(found, norm, scaler)
            else:
                result = self._step_by_numbers(found, norm, scaler, weights)
        finally:
            if scaler is not None:
                scaler.update()
            accumulator.optimizer.zero_grad(set_to_none=True)
        accumulator.steps += 1
        return result

    def _may_read_later(self, norm: Tensor | None, scaler: torch.amp.GradScaler | None) -> bool:
        """Whether the optimizer may be called before the numbers are known: see Note [A step later]."""
        values = [*self._losses, *([] if norm is None else [norm])]
        if not values or not all(readback.defers(value.device) for value in values):
            return False
        on_nonfinite = self._accumulator.on_nonfinite
        if on_nonfinite == "raise" and scaler is None:
            return True
        return on_nonfinite != "raise_at_once" and gradients.can_skip_by_flag(self._accumulator.optimizer)

    def _step_by_numbers(
        self, found: list[Tensor], norm: Tensor | None, scaler: torch.amp.GradScaler | None, weights: list[float]
    ) -> StepResult:
        """The step of the CPU: first the numbers, then the optimizer."""
        accumulator = self._accumulator
        losses, gradient_norm = self._read(norm)
        loss, weight = self._mean_loss(losses, weights)
        stepped = self._is_finite(losses, weights, gradient_norm)
        if stepped and not self._weighs_nothing(weights):
            if accumulator.clip_grad_norm is not None:
                gradients.clip(found, gradient_norm, accumulator.clip_grad_norm)
            stepped = self._optimizer_step(scaler, gradient_norm)
        if not stepped and self._buffers is not None:
            self._buffers.restore()
        return StepResult(loss, weight, self.samples, gradient_norm, stepped)

    def _step_by_flag(
        self, found: list[Tensor], norm: Tensor | None, scaler: torch.amp.GradScaler | None
    ) -> StepResult:
        """The step of a device: the optimizer is called, and a flag on the device says whether it may change anything.
        The numbers are sent to the host behind it."""
        accumulator = self._accumulator
        values, wrong, no_step = self._flags(norm, scaler)
        several = accumulator.ranks.world_size > 1
        if several:  # what is wrong on another rank can't be seen in this rank's numbers
            values = torch.cat([values, wrong.to(values.dtype).reshape(1)])
        self._numbers = readback.Readback(values, accumulator._buffers)
        if not self._weighs_nothing([float(weight) for weight in self._weights]):
            if accumulator.clip_grad_norm is not None and norm is not None:
                gradients.clip(found, norm, accumulator.clip_grad_norm)
            if gradients.can_skip_by_flag(accumulator.optimizer):
                gradients.step_unless(no_step, accumulator.optimizer)
            else:
                gradients.zero_if(no_step, found)
                accumulator.optimizer.step()
        if self._buffers is not None:
            self._buffers.restore_if(no_step)
            self._buffers = None
        accumulator._unread = self
        known = accumulator.on_nonfinite == "raise" and scaler is None
        return StepResult.later(self.samples, self._outcome, lambda: self._numbers_are_there, known)

    def _flags(self, norm: Tensor | None, scaler: torch.amp.GradScaler | None) -> tuple[Tensor, Tensor, Tensor]:
        """On the device: the losses and the norm; whether one is not finite that should be, on any rank; whether the
        optimizer must not step, which overflown gradients of a GradScaler forbid, too."""
        losses = self._losses
        values = _stack([*losses, *([] if norm is None else [norm])])
        counted = _stack([loss for loss, weight in zip(losses, self._weights, strict=True) if weight != 0])
        if scaler is None and len(counted) == len(losses):
            wrong = gradients.any_nonfinite(values)
        else:
            if scaler is None and norm is not None:
                counted = torch.cat([counted, norm.reshape(1).to(counted.dtype)])
            wrong = gradients.any_nonfinite(counted.to(values.device))
        wrong = self._accumulator.ranks.max_of(wrong)
        if scaler is None or norm is None:
            return values, wrong, wrong
        return values, wrong, torch.maximum(wrong, gradients.any_nonfinite(norm))

    @property
    def _numbers_are_there(self) -> bool:
        return self._numbers is None or self._numbers.ready

    def _outcome(self) -> Numbers:
        """The step's numbers, when they have arrived."""
        losses, weights, norm, wrong = self._arrived()
        loss, weight = self._mean_loss(losses, weights)
        overflown = self._accumulator.scaler is not None and not math.isfinite(norm)
        return loss, weight, norm, not wrong and not overflown

    def check(self) -> None:
        """Raises NonFiniteError if this step's numbers, which are read now, are wrong; with "skip" it is skipped."""
        losses, weights, norm, wrong = self._arrived()
        if wrong and self._accumulator.on_nonfinite != "skip":
            raise NonFiniteError(self._describe(losses, self._bad_losses(losses, weights), norm))

    def _arrived(self) -> tuple[list[float], list[float], float, bool]:
        """Losses, weights, the norm, and whether one of any rank is not finite that should be."""
        assert self._numbers is not None
        count, numbers = len(self._losses), self._numbers.read()
        several = self._accumulator.ranks.world_size > 1
        own = numbers[:-1] if several else numbers
        losses, norm = own[:count], own[count] if len(own) > count else 0.0
        weights = [float(weight) for weight in self._weights]
        wrong = bool(numbers[-1]) if several else self._is_wrong(losses, weights, norm)
        return losses, weights, norm, wrong

    def _mean_loss(self, losses: list[float], weights: list[float]) -> tuple[float, float]:
        """The step's loss and weight; the loss is NaN where no sample weighs anything."""
        total = sum(weights)
        by_weight = self._accumulator.reduction == "mean"
        mean = sum(v * (w if by_weight else 1.0) for v, w in zip(losses, weights, strict=True) if w or not by_weight)
        return mean / total if total else math.nan, total

    def _weighs_nothing(self, weights: list[float]) -> bool:
        """Whether all samples of the group, on all ranks, weigh 0: a mean over nothing has no gradient."""
        alone = self._accumulator.ranks.world_size == 1
        return self._accumulator.divides and (sum(weights) if alone else float(self._total)) == 0

    def _optimizer_step(self, scaler: torch.amp.GradScaler | None, norm: float) -> bool:
        """Whether the optimizer stepped: a GradScaler skips the step if the scaled gradients overflowed."""
        if scaler is None:
            self._accumulator.optimizer.step()
            return True
        if not math.isfinite(norm):
            return (
                False  # not left to the scaler: a fused SGD's first step would leave momentum that nobody has written
            )
        scaler.step(self._accumulator.optimizer)
        return True

    def _apply_total(self, found: list[Tensor]) -> None:
        """Multiply by nominal / total, and undo the mean over the ranks."""
        accumulator = self._accumulator
        factor = 1.0
        if accumulator.divides:
            total = float(self._total)  # a number: see _read_weights
            if accumulator.ranks.world_size > 1:
                (self._total,) = (total,) = accumulator.ranks.sum(total)
            if total != 0:
                factor = (accumulator.nominal or 1.0) / total
        if not self._reduce_after and accumulator.sync.divisor > 1:
            factor = factor * accumulator.sync.divisor
        if factor != 1.0:
            gradients.multiply(found, factor)

    def _read_weights(self) -> list[float]:
        """The weights as numbers, also their total. Those on a device were sent before the last forward."""
        arrived = (copy.read()[0] for copy in self._arriving)
        weights = [next(arrived) if isinstance(w, Tensor) else w for w in self._weights]
        self._weights = [*weights]
        if self._arriving:
            self._total = sum(weights)
        return weights

    def _read(self, norm: Tensor | None) -> tuple[list[float], float]:
        """The losses and gradient norm as numbers, with one synchronisation with the device."""
        values = self._losses + ([] if norm is None else [norm])
        numbers: list[float]
        if len({value.device for value in values}) > 1 or all(value.device.type == "cpu" for value in values):
            numbers = [value.item() for value in values]
        else:
            numbers = _stack(values).tolist()
        return numbers[: len(self._losses)], 0.0 if norm is None else numbers[-1]

    def _is_finite(self, losses: list[float], weights: list[float], norm: float) -> bool:
        """Whether every loss and the gradient are finite on all ranks; raises with on_nonfinite="raise".

        Infinite gradients under a GradScaler don't count: it finds its scale by them, and skips the step itself.
        """
        accumulator = self._accumulator
        (anywhere,) = accumulator.ranks.max(float(self._is_wrong(losses, weights, norm)))
        if not anywhere:
            return True
        if accumulator.on_nonfinite != "skip":
            raise NonFiniteError(self._describe(losses, self._bad_losses(losses, weights), norm))
        return False

    def _is_wrong(self, losses: list[float], weights: list[float], norm: float) -> bool:
        bad_gradient = not math.isfinite(norm) and self._accumulator.scaler is None
        return bad_gradient or bool(self._bad_losses(losses, weights))

    @staticmethod
    def _bad_losses(losses: list[float], weights: list[float]) -> list[int]:
        """The micro-batches; the loss of one of weight 0 is 0 / 0, and doesn't count."""
        return [i for i, value in enumerate(losses) if not math.isfinite(value) and weights[i] != 0]

    def _describe(self, losses: list[float], bad: list[int], norm: float) -> str:
        first, last = self._start, self._start + self.samples - 1
        where = f"at step {self._number}, samples {first} to {last} of this epoch"
        if not bad:
            return f"the gradient is not finite (norm {norm}) {where}, though every loss on this rank is"
        begin, end = self._ranges[bad[0]]
        return f"the loss is {losses[bad[0]]} for samples {begin} to {end} of this epoch, {where}"


def check_needs_no_closure(optimizer: Optimizer) -> None:
    """Raises ArgumentError for an optimizer whose step computes the loss again: a group's batches are gone by then."""
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ArgumentError(
            f"{type(optimizer).__name__} computes the loss again in its step, by a closure, and a group's batches are "
            "not kept: expected an optimizer that steps from the gradients alone, such as SGD or AdamW"
        )


def _stack(values: list[Tensor]) -> Tensor:
    """Numbers in one tensor of one dimension; of several dtypes, as float64."""
    if len({value.dtype for value in values}) > 1:
        values = [value.double() for value in values]
    return torch.stack([value.reshape(()) for value in values]) if values else torch.empty(0)
