"""How the gradients of a step come together from the ranks: the one interface for a single process,
DistributedDataParallel (`DDPSync`), and FSDP2 (`ShardedSync`, in sharding.py)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from largeds_native.trainer import gradients
from largeds_native.trainer.ranks import (
    Ranks,
    check_all_are_reduced,
    check_graph_is_not_static,
    join_bucket_rebuild,
    set_sync,
)


class GradientSync:
    """One process: nothing is sent.

    Attributes:
        in_step: all ranks must run equally many micro-batches, since each one communicates; see lockstep.py.
        divisor: what the synced gradients are divided by: the mean over the ranks instead of their sum.
    """

    in_step = False
    divisor = 1

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks

    def check(self, parameters: Sequence[nn.Parameter]) -> None:
        """Before each group: ArgumentError if the optimizer got a parameter whose gradients would not be synced."""

    def reduces_after(self, hold: bool, with_samples: int) -> bool:
        """Whether a group accumulates without communication, and one all-reduce sums the gradients afterwards.
        `with_samples`: the number of ranks that have samples for this group."""
        return False

    def looks_ahead(self, reduce_after: bool) -> bool:
        """Whether a batch must be known to be the group's last before its backward."""
        return False

    def join_without_samples(self) -> None:
        """A group begins in which this rank has no sample."""

    def before_micro_batch(self, last: bool, reduce_after: bool) -> None:
        """Choose what the next forward and backward communicate. `last`: it is the group's last."""

    def may_skip_backward(self) -> bool:
        """Whether a micro-batch that adds nothing needs no backward on this rank."""
        return True

    def backward_of_nothing(self, loss: Tensor, zero: Tensor) -> None:
        """The backward of a micro-batch of weight 0: it adds 0 to each gradient, and communicates as any other.
        `zero`: the gradient of the loss."""
        loss.backward(zero)  # type: ignore[no-untyped-call]

    def after_backward(self) -> None:
        """The micro-batch is done."""

    def forget(self) -> None:
        """Drop what an unfinished group left beside `parameter.grad`."""

    def local(self, tensors: list[Tensor]) -> list[Tensor]:
        """This rank's parts, with the memory of the given tensors."""
        return tensors

    def norm(self, found: list[Tensor]) -> Tensor | None:
        """The norm of the whole gradient, of which `found` are this rank's parts; None: there are none."""
        return gradients.norm(found)

    def share_buffers(self) -> None:
        """Give all ranks the buffers of rank 0, where nothing else does: BatchNorm's statistics differ between them."""

    def after_forwards(self) -> None:
        """After forwards without a backward, as in an evaluation."""


class DDPSync(GradientSync):
    """One all-reduce a group, at its last micro-batch. See Note [Ranks] in accumulation.py."""

    def __init__(self, ranks: Ranks, ddp: DistributedDataParallel) -> None:
        super().__init__(ranks)
        check_graph_is_not_static(ddp)
        self._ddp, self.divisor = ddp, ranks.world_size
        self._reduced = {id(p) for p in ddp.parameters() if p.requires_grad}

    def check(self, parameters: Sequence[nn.Parameter]) -> None:
        if self._ranks.world_size > 1:
            check_all_are_reduced(self._reduced, parameters)

    def reduces_after(self, hold: bool, with_samples: int) -> bool:
        return self._ranks.world_size > 1 and (hold or with_samples < self._ranks.world_size)

    def looks_ahead(self, reduce_after: bool) -> bool:
        return not reduce_after

    def join_without_samples(self) -> None:
        join_bucket_rebuild(self._ddp)

    def before_micro_batch(self, last: bool, reduce_after: bool) -> None:
        set_sync(self._ddp, last and not reduce_after)

    def may_skip_backward(self) -> bool:
        """DDP waits for the backward of the micro-batch that syncs."""
        return not self._ddp.require_backward_grad_sync
