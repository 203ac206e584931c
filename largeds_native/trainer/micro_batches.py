"""What the micro-batches of one group leave for its optimizer step."""

from __future__ import annotations

import math

from torch import Tensor

from largeds_native.trainer import readback
from largeds_native.trainer.buffers import BufferSnapshot


class MicroBatches:
    """The losses and weights of a group.

    Attributes:
        start: samples of the epoch before the group.
        samples: those of the group that were yielded so far.
        losses: detached; one for each micro-batch that weighs something.
        weights: one for each loss; those on a device become numbers in `read_weights`.
        buffers: the model's before the group, if they are to be restored when its step is skipped.
    """

    def __init__(self, start: int, buffers: BufferSnapshot | None) -> None:
        self.start, self.buffers = start, buffers
        self.clear()

    def clear(self) -> None:
        """The group starts again."""
        self.samples = 0
        self.losses: list[Tensor] = []
        self.weights: list[float | Tensor] = []
        self._arriving: list[readback.Readback] = []  # the weights that are tensors
        self._ranges: list[tuple[int, int]] = []  # first and last sample of each loss, as indices in the epoch

    def expect(self, weight: float | Tensor, pinned: readback.PinnedBuffers) -> None:
        """A weight on a device is sent to the host before the forward is queued, so that it is there at the step."""
        if isinstance(weight, Tensor):
            self._arriving.append(readback.Readback(weight.reshape(1), pinned))

    def add(self, loss: Tensor, weight: float | Tensor, samples: int) -> None:
        """The last of the samples yielded had a backward."""
        self.losses.append(loss.detach().clone())  # a CUDA graph's next run writes over its outputs
        self.weights.append(weight)
        last = self.start + self.samples - 1
        self._ranges.append((last - samples + 1, last))

    def read_weights(self) -> list[float]:
        """The weights as numbers."""
        arrived = (copy.read()[0] for copy in self._arriving)
        weights = [next(arrived) if isinstance(w, Tensor) else w for w in self.weights]
        self.weights = [*weights]
        return weights

    def counted_losses(self) -> list[Tensor]:
        """Without those of weight 0, which are 0 / 0."""
        return [loss for loss, weight in zip(self.losses, self.weights, strict=True) if weight != 0]

    @staticmethod
    def bad_losses(losses: list[float], weights: list[float]) -> list[int]:
        """The indices of losses that are not finite; one of weight 0 doesn't count."""
        return [i for i, value in enumerate(losses) if not math.isfinite(value) and weights[i] != 0]

    def describe(self, losses: list[float], weights: list[float], norm: float | None, step: int) -> str:
        """What is not finite, and of which samples. `norm`: None if it is not known."""
        first, last = self.start, self.start + self.samples - 1
        where = f"at step {step}, samples {first} to {last} of this epoch"
        bad = self.bad_losses(losses, weights)
        if not bad:
            known = "" if norm is None else f" (norm {norm})"
            return f"the gradient is not finite{known} {where}, though every loss on this rank is"
        begin, end = self._ranges[bad[0]]
        return f"the loss is {losses[bad[0]]} for samples {begin} to {end} of this epoch, {where}"
