"""Gradient accumulation in which every sample of a step has the same weight. Usable in a hand-written loop:

    accumulator = Accumulator(model, optimizer, accumulate=8, micro_batch=32)
    for group in accumulator.groups(loader):              # one optimizer step each
        for images, labels in group:                      # micro-batches: views of the loader's batches
            group.backward(criterion(model(images), labels))
        group.step()

Note [Ranks]
With DistributedDataParallel only the last micro-batch of a group syncs, so there is one all-reduce of gradients a step,
overlapped with that backward. At the start of a group the ranks tell each other whether they have data (24 bytes over
gloo). If a rank has no data left, or may have to repeat the group (`hold`), the group accumulates without DDP's
reducer, and one all-reduce sums the gradients afterwards. So a rank that fails early cannot leave others blocked in
backward(). With FSDP2 each forward and backward communicates, so all ranks run equally many micro-batches: see
lockstep.py, and Note [Sharded gradients] in sharding.py.

See Note [Weights] in weighting.py and Note [A step later] in optimizer_step.py.
"""

from __future__ import annotations

import inspect
import itertools
import operator
from collections.abc import Iterable, Iterator
from numbers import Real
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from largeds_native.errors import ArgumentError
from largeds_native.trainer import batches, gradients, graphs
from largeds_native.trainer.counts import check_count
from largeds_native.trainer.group import Group, Shared
from largeds_native.trainer.lockstep import Lockstep
from largeds_native.trainer.optimizer_step import OptimizerSteps
from largeds_native.trainer.ranks import Ranks
from largeds_native.trainer.sharding import gradient_sync
from largeds_native.trainer.weighting import Weighting
from largeds_native.trainer.weights import Weight

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
        if on_nonfinite not in ON_NONFINITE:
            raise ArgumentError(f"expected on_nonfinite 'raise', 'raise_at_once' or 'skip', found {on_nonfinite!r}")
        if clip_grad_norm is not None and not (isinstance(clip_grad_norm, Real) and clip_grad_norm > 0):
            raise ArgumentError(f"expected clip_grad_norm above 0, found {clip_grad_norm!r}")
        self.model, self.optimizer, self.accumulate = model, optimizer, accumulate
        self.device, self.hold = device, hold
        self.weighting = Weighting(reduction, weight, scaler)
        self.ranks = ranks or Ranks()
        self.sync = gradient_sync(model, optimizer, self.ranks, sync)
        check_needs_no_closure(optimizer)
        graphs.look_at(model)
        self._known = self.parameters  # those of the last group
        self._steps = OptimizerSteps(optimizer, self.weighting, self.sync, self.ranks, clip_grad_norm, on_nonfinite)
        self._shared = Shared(model, device, hold, micro_batch, self.weighting, self.sync, self._steps)

    @property
    def micro_batch(self) -> int | None:
        """Number of samples in a micro-batch; with `hold`, it may change between groups."""
        return self._shared.micro_batch

    @micro_batch.setter
    def micro_batch(self, size: int | None) -> None:
        self._shared.micro_batch = size

    @property
    def clip_grad_norm(self) -> float | None:
        """The largest norm of the whole gradient."""
        return self._steps.clip_grad_norm

    @clip_grad_norm.setter
    def clip_grad_norm(self, largest: float | None) -> None:
        self._steps.clip_grad_norm = largest

    @property
    def on_nonfinite(self) -> str:
        """What follows a loss or gradient that is infinite or NaN."""
        return self._steps.on_nonfinite

    @on_nonfinite.setter
    def on_nonfinite(self, what: str) -> None:
        self._steps.on_nonfinite = what

    @property
    def steps(self) -> int:
        """Number of optimizer steps so far."""
        return self._steps.count

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
            if self.weighting.nominal is None:
                self._agree_on_nominal(pairs)
            with_batches, with_samples = self.ranks.sum(float(bool(taken)), float(bool(pairs)))
            if not with_batches:
                self.settle()
                return
            self._take_new_parameters()
            reduce_after = self.sync.reduces_after(self.hold, int(with_samples))
            group = Group(self._shared, pairs, iterator, reduce_after, start, self.accumulate - taken, lockstep)
            del pairs
            yield group
            start += group.samples

    def settle(self) -> None:
        """Wait for the last step's numbers, and raise its NonFiniteError. `groups` and `Group.step` call it; before
        weights are saved or evaluated within an epoch, call it yourself."""
        self._steps.settle()

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
        if len(parameters) != len(self._known) or not all(map(operator.is_, parameters, self._known)):
            known = set(map(id, self._known))
            for parameter in parameters:
                if id(parameter) not in known:
                    parameter.grad = None
            self._known = parameters
        self.sync.check(parameters)

    def state_dict(self) -> dict[str, Any]:
        """The nominal weight, the micro-batch size and the number of steps, as plain numbers."""
        return {"nominal": self.weighting.nominal, "micro_batch": self.micro_batch, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self.weighting.nominal, self._steps.count = state["nominal"], state["steps"]
        if self.hold:
            self.micro_batch = state["micro_batch"]

    def _agree_on_nominal(self, pairs: list[tuple[Any, Any]]) -> None:
        """Sets `nominal` to `accumulate` times the weight of the run's first batch: the same number on every rank."""
        size = batches.length(pairs[0]) if pairs else 0
        first = float(self.weighting.weigh(*pairs[0])) if pairs else 0.0
        nominal, largest = self.ranks.max(self.accumulate * first, float(size))
        if not largest:
            return  # no rank has a sample
        if self.micro_batch is not None and self.micro_batch > largest and not self.hold:
            raise ArgumentError(f"micro_batch={self.micro_batch} is larger than the loader's batch of {largest:.0f}")
        self.weighting.nominal = nominal if self.weighting.divides and nominal > 0 else 1.0
        if self.hold and self.micro_batch is None:
            self.micro_batch = int(largest)


def check_needs_no_closure(optimizer: Optimizer) -> None:
    """Raises ArgumentError for an optimizer whose step computes the loss again: a group's batches are gone by then."""
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ArgumentError(
            f"{type(optimizer).__name__} computes the loss again in its step, by a closure, and a group's batches are "
            "not kept: expected an optimizer that steps from the gradients alone, such as SGD or AdamW"
        )
