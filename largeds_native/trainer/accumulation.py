"""Gradient accumulation in which every sample of a step weighs the same. Usable in a hand-written loop:

    accumulator = Accumulator(model, optimizer, accumulate=8, micro_batch=32)
    for group in accumulator.groups(loader):              # one optimizer step each
        for images, labels in group:                      # micro-batches: views of the loader's batches
            group.backward(criterion(model(images), labels))
        group.step()

Note [Weights]
The gradient of a step is sum_i w_i grad l_i / sum_i w_i over all samples of the group and all ranks. The total is known
only when the group's last batch has come (its size may differ, data may end, each rank may have another count).
Holding the group's batches back until then would cost memory, so each micro-batch is scaled by w / nominal, where
`nominal` is what a full group weighs on one rank, and the gradients are multiplied once by nominal / total before the
step. In a full group that factor is 1 and the pass over the gradients is left out. Dividing by the nominal weight at
once, not only at the end, keeps the scaled gradients in the range of the full batch's, which float16 needs.

Note [Ranks]
With DistributedDataParallel only the last micro-batch of a group syncs, so there is one all-reduce of gradients a step,
overlapped with that backward. The ranks agree at the start of a group on who has data (24 bytes over gloo): when a rank
has none left, or may have to repeat the group (`hold`), the group accumulates without DDP's reducer and the gradients
are summed afterwards, in one all-reduce. A rank that fails before it can so not leave the others waiting in a backward.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from largeds_native.errors import ArgumentError
from largeds_native.trainer import batches
from largeds_native.trainer.group import Group
from largeds_native.trainer.ranks import Ranks, find_ddp
from largeds_native.trainer.weights import Weight


class Accumulator:
    """Groups a loader's batches into optimizer steps.

    Args:
        model: the model; wrapped in DistributedDataParallel when there are several processes.
        optimizer: stepped once a group.
        accumulate: loader batches in a group.
        micro_batch: samples in a micro-batch; None takes each loader batch whole.
        reduction: "mean" if the loss given to `backward` is a mean over the micro-batch, "sum" if it is a sum. The
            gradient is that of the same loss over the full batch: a "sum" is divided only if `weight` is given.
        weight: `weight(inputs, targets)` gives what a micro-batch weighs, the denominator of its mean (tokens, a mask's
            sum), as a number or a tensor of one element; None: its number of samples.
        device: where micro-batches are moved to; None leaves them where they are.
        scaler: a `torch.amp.GradScaler` for float16.
        clip_grad_norm: the largest norm of the whole gradient, applied once a step, after unscaling.
        on_nonfinite: "raise" a NonFiniteError that names the samples, or "skip" the step.
        hold: fetch a group's batches before the first forward and keep them, so that `Group.restart` can repeat it.
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
        hold: bool = False,
        ranks: Ranks | None = None,
    ) -> None:
        for name, value in (("accumulate", accumulate), ("micro_batch", micro_batch)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ArgumentError(f"expected {name} to be a whole number of at least 1, found {value!r}")
        if reduction not in ("mean", "sum"):
            raise ArgumentError(f"expected reduction 'mean' or 'sum', found {reduction!r}")
        if on_nonfinite not in ("raise", "skip"):
            raise ArgumentError(f"expected on_nonfinite 'raise' or 'skip', found {on_nonfinite!r}")
        if clip_grad_norm is not None and not clip_grad_norm > 0:
            raise ArgumentError(f"expected clip_grad_norm above 0, found {clip_grad_norm!r}")
        self.model, self.optimizer = model, optimizer
        self.accumulate, self.micro_batch, self.hold = accumulate, micro_batch, hold
        self.reduction, self.weight = reduction, weight
        self.device, self.scaler = device, scaler
        self.clip_grad_norm, self.on_nonfinite = clip_grad_norm, on_nonfinite
        self.ranks = ranks or Ranks()
        self.ddp = find_ddp(model)
        if self.ranks.world_size > 1 and self.ddp is None:
            raise ArgumentError("several processes, but the model is not wrapped in DistributedDataParallel")
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.nominal: float | None = None  # what a full group weighs on one rank; see Note [Weights]
        self.steps = 0
        self._gradient: tuple[Any, Tensor] = (None, torch.empty(0))

    def groups(self, loader: Iterable[Any], *, start: int = 0) -> Iterator[Group]:
        """The groups of one pass over the loader; the last may be partial. `start`: samples seen before it."""
        self.optimizer.zero_grad(set_to_none=True)  # what a group that was broken off, or anybody, left behind
        iterator = iter(loader)
        while True:
            fetched = [batch for _, batch in zip(range(self.accumulate if self.hold else 1), iterator, strict=False)]
            pairs = [batches.split_pair(batch) for batch in fetched]
            del fetched
            if self.nominal is None:
                self._agree_on_nominal(pairs)
            (with_data,) = self.ranks.sum(float(bool(pairs)))
            if not with_data:
                return
            reduce_after = self.ranks.world_size > 1 and (self.hold or with_data < self.ranks.world_size)
            group = Group(self, pairs, iterator, reduce_after, start)
            del pairs
            yield group
            start += group.samples

    def weigh(self, inputs: Any, targets: Any) -> float | Tensor:
        """What these samples weigh."""
        if self.weight is None:
            return float(batches.length((inputs, targets)))
        weight = self.weight(inputs, targets)
        # on a GPU it stays a tensor: asking for its value would wait for the queue at every micro-batch
        return weight.double() if isinstance(weight, Tensor) and weight.device.type != "cpu" else float(weight)

    def gradient_of(self, loss: Tensor, weight: float | Tensor) -> Tensor:
        """What `loss.backward()` begins with: the micro-batch's weight over the nominal one; see Note [Weights]."""
        factor = (weight if self.reduction == "mean" else 1.0) / (self.nominal or 1.0)
        if isinstance(factor, Tensor):
            gradient = factor.to(loss.dtype).reshape(loss.shape)
        else:
            key = (factor, loss.dtype, loss.device, loss.shape)
            if self._gradient[0] != key:  # the same number for most micro-batches
                self._gradient = (key, torch.full_like(loss, factor, requires_grad=False))
            gradient = self._gradient[1]
        if self.scaler is not None:
            gradient = self.scaler.scale(gradient)
        return gradient

    @property
    def divides(self) -> bool:
        """Whether the step's gradient is divided by the total weight: not for a plain sum."""
        return self.reduction == "mean" or self.weight is not None

    def state_dict(self) -> dict[str, Any]:
        """The nominal weight, the micro-batch and the steps taken, as plain numbers."""
        return {"nominal": self.nominal, "micro_batch": self.micro_batch, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict()`."""
        self.nominal, self.steps = state["nominal"], state["steps"]
        if self.hold:
            self.micro_batch = state["micro_batch"]

    def _agree_on_nominal(self, pairs: list[tuple[Any, Any]]) -> None:
        """A full group weighs `accumulate` times the run's first batch: the same number on every rank."""
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
