"""Communication between the processes of a run: small counts over gloo, gradients in one all-reduce.

The counts use a gloo group of their own, on the CPU, so that exchanging a few numbers never waits for the GPU's queue.
Without `torch.distributed`, or with one process, nothing is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from largeds_native.errors import ArgumentError, StorageError


class Ranks:
    """The processes of this run. Creating it is a collective call: every rank must create one, in the same order."""

    def __init__(self) -> None:
        joined = dist.is_available() and dist.is_initialized()
        self.world_size = dist.get_world_size() if joined else 1
        self.rank = dist.get_rank() if joined else 0
        self._group: Any = dist.new_group(backend="gloo") if self.world_size > 1 else None
        # ranks of different versions would misread each other, or hang
        self.same("the version of torch", str(torch.__version__), ": install the same one everywhere")

    def same(self, what: str, value: Any, advice: str = "") -> None:
        """ArgumentError, on all ranks, unless the value is the same on each of them."""
        values = self.gather(value)
        other = next((rank for rank, found in enumerate(values) if found != values[0]), None)
        if other is not None:
            found = f"{values[0]} on rank 0, {values[other]} on {other}"
            raise ArgumentError(f"{what} differs between the ranks: {found}{advice}")

    @property
    def group(self) -> Any:
        """The gloo group of these ranks; None for a single process."""
        return self._group

    def sum(self, *values: float) -> list[float]:
        """The sum of each number over the ranks."""
        return self._reduce(values, dist.ReduceOp.SUM)

    def max(self, *values: float) -> list[float]:
        """The maximum of each number over the ranks."""
        return self._reduce(values, dist.ReduceOp.MAX)

    def _group_for(self, tensor: Tensor) -> Any:
        """The default group may be one of NCCL, which takes nothing on the CPU."""
        return self._group if tensor.device.type == "cpu" else None

    def max_of(self, flag: Tensor) -> Tensor:
        """The maximum of a tensor over the ranks, on its device and without waiting for it."""
        if self.world_size > 1:
            dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=self._group_for(flag))
        return flag

    def longest(self, loader: Any) -> int | None:
        """The largest length of the ranks' loaders, in batches; None if a length is unknown."""
        try:
            length = len(loader)
        except TypeError:
            length = -1
        negative_shortest, longest = self.max(-length, length)
        return None if negative_shortest > 0 else int(longest)

    def gather(self, value: Any) -> list[Any]:
        """The value of each rank, on every rank."""
        if self.world_size == 1:
            return [value]
        gathered: list[Any] = [None] * self.world_size
        dist.all_gather_object(gathered, value, group=self._group)
        return gathered

    def first(self, value: Any) -> Any:
        """Rank 0's value, on every rank."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self._group)
        return box[0]

    def on_first(self, function: Callable[[], Any]) -> Any:
        """What the function returns on rank 0, on every rank; its StorageError or ArgumentError is raised on all."""
        outcome: tuple[Any, Exception | None] = (None, None)
        if self.rank == 0:
            try:
                outcome = (function(), None)
            except (StorageError, ArgumentError) as error:
                if self.world_size == 1:
                    raise
                outcome = (None, error)
        value, refused = self.first(outcome)
        if refused is not None:
            raise refused
        return value

    def sum_tensor(self, tensor: Tensor) -> Tensor:
        """The sum of the tensor over the ranks, on its device; the given tensor may be overwritten."""
        if self.world_size > 1:
            dist.all_reduce(tensor, group=self._group_for(tensor))
        return tensor

    def broadcast_tensor(self, tensor: Tensor) -> None:
        """Overwrite the tensor with that of rank 0."""
        if self.world_size > 1:
            dist.broadcast(tensor, src=0, group=self._group_for(tensor))

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum the gradients over the ranks in one all-reduce for each dtype.

        A rank may have no gradient for a parameter (it had no sample, or the layer was not used). A parameter keeps
        None only if it has no gradient on any rank, since optimizers treat None and zeros differently.
        """
        if self.world_size == 1:
            return
        by_dtype: dict[torch.dtype, list[nn.Parameter]] = {}
        for parameter in parameters:
            if parameter.requires_grad:
                by_dtype.setdefault(parameter.dtype, []).append(parameter)
        for same in by_dtype.values():
            self._sum_flat(same)

    def _sum_flat(self, parameters: list[nn.Parameter]) -> None:
        present = torch.tensor([p.grad is not None for p in parameters])
        parts = [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in parameters]
        flat = torch.cat([*parts, present.to(parts[0])])
        del parts
        dist.all_reduce(flat)
        anywhere = flat[-len(parameters) :].tolist()
        summed = torch.split(flat, [*(p.numel() for p in parameters), len(parameters)])
        for parameter, values, count in zip(parameters, summed, anywhere, strict=False):
            if count and parameter.grad is None:
                parameter.grad = values.view_as(parameter).clone()
            elif count and parameter.grad is not None:
                parameter.grad.copy_(values.view_as(parameter))

    def _reduce(self, values: Iterable[float], operation: Any) -> list[float]:
        if self.world_size == 1:
            return list(values)
        numbers: Tensor = torch.tensor(list(values), dtype=torch.float64)
        dist.all_reduce(numbers, op=operation, group=self._group)
        result: list[float] = numbers.tolist()
        return result


def find_ddp(model: nn.Module) -> DistributedDataParallel | None:
    """The DistributedDataParallel wrapper in the model, also under `torch.compile`."""
    inner = getattr(model, "_orig_mod", model)
    return inner if isinstance(inner, DistributedDataParallel) else None


def check_graph_is_not_static(ddp: DistributedDataParallel | None) -> None:
    """Raises ArgumentError for `static_graph=True`: only the last backward of a step communicates."""
    if ddp is not None and ddp.static_graph:
        raise ArgumentError(
            "DistributedDataParallel(static_graph=True) expects all backward passes to be the same, but only the last "
            "one of a step communicates: leave static_graph out"
        )


def check_all_are_reduced(reduced: set[int], parameters: Iterable[nn.Parameter]) -> None:
    """ArgumentError for a parameter to train that is not among those (by id) whose gradients DDP sums."""
    unknown = sum(p.requires_grad and id(p) not in reduced for p in parameters)
    if unknown:
        raise ArgumentError(
            f"{unknown} parameters of the optimizer require gradients now, and did not when DistributedDataParallel "
            "was made: it would not sum them, and the ranks would drift apart. After unfreezing, wrap the model again "
            "and make a new Trainer"
        )


def unwrap(model: nn.Module) -> nn.Module:
    """The user's module without DistributedDataParallel and `torch.compile`; checkpoints use its parameter names."""
    while True:
        if isinstance(model, DistributedDataParallel):
            model = model.module
        elif hasattr(model, "_orig_mod"):
            model = getattr(model, "_orig_mod")  # noqa: B009
        else:
            return model


def without_ddp(model: nn.Module) -> nn.Module:
    """The module without DistributedDataParallel, still compiled: for forwards that not all ranks make together."""
    ddp = find_ddp(model)
    return model if ddp is None else ddp.module


def set_sync(ddp: DistributedDataParallel, sync: bool) -> None:
    """Set whether the next forward and backward communicate with the other ranks.

    This sets the flag of `ddp.no_sync()`, and that of the broadcast of buffers in forward: a rank without a sample in
    this group makes no forward, so the other ranks must not wait for it there.
    """
    ddp.require_backward_grad_sync = sync
    ddp.require_forward_param_sync = sync


def join_bucket_rebuild(ddp: DistributedDataParallel) -> None:
    """On a rank without samples, take part in the collective call that the other ranks make in forward.

    The first forward after the first synchronised backward rebuilds the reducer's buckets, which is a collective call.
    """
    ddp.reducer._rebuild_buckets()
