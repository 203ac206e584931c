"""One group of an Accumulator: its micro-batches, and their backwards."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from largeds_native.errors import ArgumentError
from largeds_native.trainer import batches, graphs
from largeds_native.trainer.buffers import BufferSnapshot
from largeds_native.trainer.gradient_sync import GradientSync
from largeds_native.trainer.lockstep import Lockstep, Pair, count
from largeds_native.trainer.micro_batches import MicroBatches
from largeds_native.trainer.optimizer_step import OptimizerSteps
from largeds_native.trainer.step_result import StepResult
from largeds_native.trainer.weighting import Weighting
from largeds_native.trainer.weights import check_scalar_loss


@dataclass
class Shared:
    """What the groups of one Accumulator have in common."""

    model: nn.Module
    device: torch.device | None
    hold: bool
    micro_batch: int | None  # halved by `Group.restart`
    weighting: Weighting
    sync: GradientSync
    steps: OptimizerSteps


class Group:
    """The micro-batches of one optimizer step, from `Accumulator.groups`.

    Iterating over it yields (inputs, targets) of each micro-batch, on the accumulator's device; call `backward` for
    each before the next one, and `step` after the last. `stand_in` says that the micro-batch just yielded counts
    nothing.
    """

    # see Note [Weights] in weighting.py

    def __init__(
        self,
        shared: Shared,
        pairs: list[Pair],
        source: Iterator[Any],
        reduce_after: bool,
        start: int,
        remaining: int,
        lockstep: Lockstep | None = None,
    ) -> None:
        self._shared, self._pairs, self._source = shared, pairs, source
        self._reduce_after = reduce_after
        self._remaining = remaining  # batches yet to fetch
        self._lockstep = lockstep
        self._empty = not pairs
        skips = shared.steps.on_nonfinite == "skip"
        self._done = MicroBatches(start, BufferSnapshot(shared.model) if skips else None)
        self._own_gradients = graphs.OwnGradients()
        self.stand_in = False  # the micro-batch just yielded counts nothing; see Accumulator
        self._current: tuple[float | Tensor, int] | None = None  # its weight and samples, until its backward
        if self._empty:
            shared.sync.join_without_samples()

    @property
    def samples(self) -> int:
        """Number of samples yielded so far."""
        return self._done.samples

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """Yields micro-batches on the device; call `backward` for each before the next one."""
        shared = self._shared
        for pair, micro_batches, last_batch in self._in_step():
            length = 0 if pair is None else batches.length(pair)
            size = shared.micro_batch or length
            for number in range(micro_batches):
                last = last_batch and number + 1 == micro_batches
                shared.sync.before_micro_batch(last, self._reduce_after)
                taken = min(size, length - number * size)
                if pair is None or taken <= 0:
                    yield from self._nothing()
                    continue
                part = pair if taken == length else batches.narrow(pair, number * size, taken)
                weight = shared.weighting.weigh(*part)
                self._done.expect(weight, shared.steps.pinned)
                self._current = (weight, taken)
                self._done.samples += taken
                if self._done.losses and graphs.in_use():
                    self._own_gradients.keep(shared.steps.parameters)
                graphs.begin()
                yield batches.to_device(part, shared.device)
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
        size = self._shared.micro_batch
        if self._lockstep is not None:
            yield from self._lockstep.batches((pair for pair, _ in self._loader_batches()), size)
            return
        for pair, last in self._loader_batches():
            yield pair, count(pair, size), last
            del pair

    def _loader_batches(self) -> Iterator[tuple[Pair, bool]]:
        """Yields (batch, whether it is the group's last), and never fetches a batch past the group.

        So between two groups the loader's position is exactly that of the step, and its state can be saved. DDP must
        know before its backward that a batch is the last: for DDP only, one batch is fetched ahead, so that two are in
        memory. (Lockstep does the same for FSDP2.)
        """
        if self._shared.hold or self._empty:
            for i, held in enumerate(self._pairs):
                yield held, i + 1 == len(self._pairs)
            return
        ahead = self._lockstep is None and self._shared.sync.looks_ahead(self._reduce_after)
        pair: Pair | None = self._pairs.pop()
        while pair is not None:
            upcoming = self._fetch() if ahead else None
            yield pair, ahead and upcoming is None
            del pair  # frees the batch's memory before the next one is fetched
            pair = upcoming if ahead else self._fetch()
            del upcoming

    def _fetch(self) -> Pair | None:
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
        weighting, sync = self._shared.weighting, self._shared.sync
        if not self.stand_in:
            weighting.look_at(loss)
        weight, samples = self._current
        if isinstance(weight, float) and weight == 0:  # the loss is 0 / 0 and adds nothing, but others may wait for it
            if not sync.may_skip_backward():
                sync.backward_of_nothing(loss, weighting.scaled(torch.zeros_like(loss)))
        else:
            loss.backward(weighting.gradient_of(loss, weight))  # type: ignore[no-untyped-call]
            self._done.add(loss, weight, samples)
        sync.after_backward()
        self._current = None
        if self.stand_in and self._lockstep is not None:
            self._lockstep.done()
            self.stand_in = False

    def largest(self) -> Pair | None:
        """Of the batches that are held, the micro-batch with the most elements; None: there are none."""
        size = self._shared.micro_batch
        firsts = [
            batches.narrow(pair, 0, min(size or length, length))
            for pair in self._pairs
            if (length := batches.length(pair))
        ]
        return max(firsts, key=batches.elements, default=None)

    def restart(self, micro_batch: int) -> None:
        """Restart this group with another micro-batch size and without its gradients. Needs `hold`."""
        if not self._shared.hold:
            raise ArgumentError("only an accumulator with hold=True keeps a group's batches")
        self._shared.micro_batch = micro_batch
        self._shared.steps.optimizer.zero_grad(set_to_none=True)
        self._shared.sync.forget()
        self._done.clear()
        self._own_gradients = graphs.OwnGradients()
        self.stand_in, self._current = False, None

    def step(self, *, norm: bool = True) -> StepResult:
        """Divide by the total weight, clip, check for NaN, step, and clear the gradients. If the total weight is 0, the
        optimizer is not called. On a CUDA device the numbers are read later; see Note [A step later] in
        optimizer_step.py.

        `norm`: False if nobody reads the result's `gradient_norm`. On a CUDA device it may then be NaN, and the step
        takes less of Python's time.

        Raises NonFiniteError for this step, or on a CUDA device with on_nonfinite="raise" for the one before it."""
        self._pairs.clear()
        self._own_gradients = graphs.OwnGradients()  # it would keep them in memory
        return self._shared.steps.run(self._done, reduce_after=self._reduce_after, norm_is_read=norm)
