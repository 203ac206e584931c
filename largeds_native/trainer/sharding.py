"""Models whose parameters are sharded over the ranks: FSDP2 (`fully_shard`) and HSDP, its form on a mesh of two
dimensions.

Note [Sharded gradients]
FSDP gathers the parameters of a layer in forward and again in backward, and reduce-scatters their gradients: each of
these is a collective call. So all ranks run equally many micro-batches (lockstep.py), and a micro-batch that adds
nothing still makes its backward. By default each micro-batch's gradient is reduce-scattered, and only this rank's part
of it stays in memory (`sync="each"`); `sync="last"` keeps the whole gradients until the group's last micro-batch, as
large as the unsharded model, and sends them once. HSDP sums over its replicas only at the last micro-batch either way.
FSDP divides by the number of ranks, as DDP does, and the step undoes it (`divisor`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from largeds_native.errors import ArgumentError
from largeds_native.trainer.gradient_sync import DDPSync, GradientSync
from largeds_native.trainer.ranks import Ranks, find_ddp

SYNCS = ("each", "last")


def gradient_sync(model: nn.Module, optimizer: Any, ranks: Ranks, sync: str | None) -> GradientSync:
    """That of this model. Raises ArgumentError for a model that is shared over the ranks in a way that isn't known."""
    check_wrappers(model, optimizer)
    if sync is not None and sync not in SYNCS:
        raise ArgumentError(f"expected sync 'each' or 'last', found {sync!r}")
    ranks.same("the kind of device of the model", next((p.device.type for p in model.parameters()), "none"))
    ranks.same("the way in which the model is shared out (fully_shard)", is_sharded(model))
    if is_sharded(model):
        return ShardedSync(_inner(model), ranks, sync or "each")
    if sync is not None:
        raise ArgumentError(
            f"sync={sync!r} is for models that fully_shard has sharded (FSDP2), and this one is not: leave sync out. "
            "With DistributedDataParallel only the last micro-batch of a step syncs"
        )
    ddp = find_ddp(model)
    if ddp is not None:
        return DDPSync(ranks, ddp)
    if ranks.world_size > 1:
        raise ArgumentError(
            "several processes, but the model is not wrapped in DistributedDataParallel, and not sharded by fully_shard"
        )
    return GradientSync(ranks)


def is_sharded(model: nn.Module) -> bool:
    """Whether `fully_shard` was applied to this model itself, also under `torch.compile`."""
    return _is_unit(_inner(model))


def check_wrappers(model: nn.Module, optimizer: Any) -> None:
    """ArgumentError for wrappers that don't go together, and for an optimizer that holds the parameters of before."""
    names = {base.__name__ for module in model.modules() for base in type(module).__mro__}
    if "FullyShardedDataParallel" in names:
        raise ArgumentError(
            "the model is wrapped in FullyShardedDataParallel (FSDP1), whose flat parameters are not supported: apply "
            "torch.distributed.fsdp.fully_shard (FSDP2) to the plain model instead"
        )
    units = [name for name, module in _inner(model).named_modules() if _is_unit(module)]
    if not units:
        return
    if not hasattr(_fsdp(), "fully_shard"):
        raise ArgumentError(f"fully_shard is supported from torch 2.6 on, found torch {torch.__version__}")
    if "DistributedDataParallel" in names:
        raise ArgumentError(
            "the model has both DistributedDataParallel and fully_shard: give one of them. For replicas of a sharded "
            "model, apply fully_shard with a mesh of two dimensions (HSDP)"
        )
    if units[0] != "":
        raise ArgumentError(
            f"fully_shard was applied to layers ({units[0]!r}), but not to the model itself, so the gradients of what "
            "lies outside of them would not be summed: after the layers, call fully_shard(model)"
        )
    _check_optimizer(_inner(model), optimizer)


def _check_optimizer(model: nn.Module, optimizer: Any) -> None:
    own = {id(p) for p in model.parameters()}
    foreign = sum(id(p) not in own for group in optimizer.param_groups for p in group["params"])
    if foreign:
        raise ArgumentError(
            f"{foreign} parameters of the optimizer are not the model's: fully_shard replaces the parameters, so make "
            "the optimizer after it"
        )


def _fsdp() -> Any:
    import torch.distributed.fsdp

    return torch.distributed.fsdp


def _inner(model: nn.Module) -> nn.Module:
    inner: nn.Module = getattr(model, "_orig_mod", model)
    return inner


def _is_unit(module: nn.Module) -> bool:
    """Whether `fully_shard` was applied to this module: it puts a class of this name into its bases."""
    return any(base.__name__ == "FSDPModule" for base in type(module).__mro__)


def is_dtensor(value: Any) -> bool:
    """Whether this is a tensor of which each rank has a part."""
    return isinstance(value, Tensor) and hasattr(value, "device_mesh") and hasattr(value, "placements")


def local_part(tensor: Tensor) -> Tensor:
    """This rank's part, with the tensor's own memory."""
    part: Tensor = tensor.to_local() if is_dtensor(tensor) else tensor  # type: ignore[attr-defined]
    return part


def compute_device(parameter: Tensor) -> torch.device:
    """Where forward runs: with CPU offloading, the shards are elsewhere."""
    kind = parameter.device_mesh.device_type if is_dtensor(parameter) else parameter.device.type  # type: ignore[attr-defined]
    if kind == parameter.device.type:
        return parameter.device
    return torch.device(kind, getattr(torch, kind).current_device())


class ShardedSync(GradientSync):
    """Reduce-scatters at each micro-batch, or at the last. See Note [Sharded gradients]."""

    in_step = True

    def __init__(self, model: nn.Module, ranks: Ranks, sync: str) -> None:
        super().__init__(ranks)
        self._model: Any = model
        self.sync, self.divisor = sync, ranks.world_size
        self._outputs: list[Tensor] = []  # of the forward of this micro-batch
        self.tried = self.groups_tried = 0  # elements of a micro-batch; see Note [Trials] in memory.py
        meshes = [p.device_mesh for p in model.parameters() if is_dtensor(p)]  # type: ignore[attr-defined]
        for mesh in meshes:
            if mesh.size() != ranks.world_size:
                raise ArgumentError(
                    f"the model is sharded over a mesh of {mesh.size()} ranks, and the run has {ranks.world_size}: "
                    "expected each rank to have samples of its own, and no tensor or pipeline parallelism"
                )
        self._replicas = max((mesh.size(0) if mesh.ndim == 2 else 1 for mesh in meshes), default=1)
        self.check(list(model.parameters()))
        model.register_forward_hook(self._remember_outputs)

    def check(self, parameters: Sequence[nn.Parameter]) -> None:
        whole = sum(p.requires_grad and not is_dtensor(p) for p in parameters)
        if whole:
            raise ArgumentError(
                f"{whole} parameters to train are not sharded (ignored_params of fully_shard, or layers that came "
                "later), so their gradients would not be summed: shard them, or freeze them by requires_grad_(False)"
            )
        self._check_divisors()

    def _check_divisors(self) -> None:
        """ArgumentError if the user has changed what FSDP divides by: the weights of the samples would be wrong."""
        factors = [getattr(part, "gradient_divide_factor", None) for part in _parameter_groups(self._model)]
        given = [factor for factor in factors if factor is not None]
        if given:
            raise ArgumentError(
                f"fully_shard's gradients are divided by {given[0]} (set_gradient_divide_factor): leave that out, "
                "the step weighs the samples of all ranks itself"
            )

    def looks_ahead(self, reduce_after: bool) -> bool:
        return True

    def before_micro_batch(self, last: bool, reduce_after: bool) -> None:
        self._outputs = []
        self._model.set_is_last_backward(last)
        self._model.set_requires_gradient_sync(last or self.sync == "each")
        if self._replicas > 1:
            self._model.set_requires_all_reduce(last)

    def may_skip_backward(self) -> bool:
        return False

    def _remember_outputs(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        self._outputs += [tensor for tensor in _tensors(outputs) if tensor.requires_grad]

    def backward_of_nothing(self, loss: Tensor, zero: Tensor) -> None:
        """A loss of nothing may be 0 / 0, and its gradient NaN: zeros are put in its place where the model begins."""
        for output in self._outputs:
            output.register_hook(torch.zeros_like)  # type: ignore[no-untyped-call]
        loss.backward(zero)  # type: ignore[no-untyped-call]

    def after_backward(self) -> None:
        self._outputs = []

    def forget(self) -> None:
        """What fully_shard keeps of micro-batches that did not sync; nothing public clears it in all versions."""
        self._outputs = []
        for group in _parameter_groups(self._model):
            group._partial_reduce_output = None
            for parameter in group.fsdp_params:
                parameter.unsharded_accumulated_grad = None
                if getattr(parameter, "_unsharded_param", None) is not None:
                    parameter._unsharded_param.grad = None

    @contextmanager
    def without_communication(self) -> Iterator[None]:
        """Forwards and backwards in it fill the gathered parameters with this rank's own, and need the same memory.
        They may fail anywhere; gradients are dropped by `forget` and the optimizer."""
        self.check_trials()
        groups = list(_parameter_groups(self._model))
        kept = [(group._all_gather_comm, group._reduce_scatter_comm) for group in groups]
        self._model.set_is_last_backward(True)
        self._model.set_requires_gradient_sync(self.sync == "each")
        self._model.set_requires_all_reduce(False)
        for group in groups:
            group._all_gather_comm, group._reduce_scatter_comm = _OwnCopies(), _OwnPart()
        try:
            yield
        finally:
            self._model.reset_iter_state()
            for group, (all_gather, reduce_scatter) in zip(groups, kept, strict=True):
                group._all_gather_comm, group._reduce_scatter_comm = all_gather, reduce_scatter

    def check_trials(self) -> None:
        """ArgumentError unless this torch can run forwards without communication."""
        known = all(hasattr(group, "_all_gather_comm") for group in _parameter_groups(self._model))
        if not known or not hasattr(self._model, "reset_iter_state"):
            raise ArgumentError(
                'micro_batch="auto" for a model sharded by fully_shard needs a torch that can recover from a failed '
                f"forward (reset_iter_state, as in torch 2.14), found torch {torch.__version__}: give a number"
            )

    def local(self, tensors: list[Tensor]) -> list[Tensor]:
        with torch.no_grad():
            return [local_part(tensor) for tensor in tensors]

    def norm(self, found: list[Tensor]) -> Tensor | None:
        part = super().norm(found)
        if part is None:
            return None
        squares = self._ranks.sum_tensor(part.double().square())
        return (squares / self._replicas).sqrt()

    @torch.no_grad()
    def share_buffers(self) -> None:
        for buffer in self._model.buffers():
            self._ranks.broadcast_tensor(buffer)

    def after_forwards(self) -> None:
        """A forward leaves the outermost layers unsharded until a backward."""
        for module in self._model.modules():
            if _is_unit(module):
                module.reshard()


class _Local:
    """In place of a collective call of FSDP2's."""

    def allocate(self, size: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.empty(*size, dtype=dtype, device=device)


class _OwnCopies(_Local):
    """Of an all-gather: this rank's part in place of all others."""

    def __call__(self, output_tensor: Tensor, input_tensor: Tensor, group: Any, async_op: bool = False) -> None:
        for part in torch.split(output_tensor.view(-1), max(input_tensor.numel(), 1)):
            if part.data_ptr() != input_tensor.data_ptr():
                part.copy_(input_tensor.view(-1))


class _OwnPart(_Local):
    """Of a reduce-scatter: a part of this rank's own gradient."""

    def __call__(
        self, output_tensor: Tensor, input_tensor: Tensor, group: Any, op: Any, async_op: bool = False
    ) -> None:
        output_tensor.view(-1).copy_(input_tensor.view(-1)[: output_tensor.numel()])


def _parameter_groups(model: nn.Module) -> Iterator[Any]:
    """What fully_shard keeps for each unit."""
    for module in model.modules():
        if _is_unit(module):
            state: Any = module._get_fsdp_state()  # type: ignore[operator]
            groups = getattr(state, "_fsdp_param_groups", None)
            yield from [state._fsdp_param_group] if groups is None and state._fsdp_param_group else groups or ()


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for member in value.values():
            yield from _tensors(member)
    elif isinstance(value, (tuple, list)):
        for member in value:
            yield from _tensors(member)
