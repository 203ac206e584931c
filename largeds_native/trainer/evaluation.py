"""Evaluation: the loss and the metrics over a loader, without gradients."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader

from largeds_native.errors import ArgumentError
from largeds_native.loading import Loader
from largeds_native.loading.plan import SamplerPlan
from largeds_native.loading.torch_samplers import nested, share_of
from largeds_native.trainer import batches, graphs
from largeds_native.trainer.accumulation import Accumulator
from largeds_native.trainer.lockstep import Lockstep, Pair, count
from largeds_native.trainer.metrics import Metrics
from largeds_native.trainer.precision import Precision
from largeds_native.trainer.ranks import unwrap, without_ddp
from largeds_native.trainer.weights import Loss, check_scalar_loss


def evaluate(
    loader: Iterable[Any], accumulator: Accumulator, loss_function: Loss, precision: Precision, metrics: Metrics
) -> dict[str, float]:
    """The mean loss, and each metric."""
    return {"loss": mean_loss(loader, accumulator, loss_function, precision, metrics), **metrics.compute()}


def mean_loss(
    loader: Iterable[Any], accumulator: Accumulator, loss_function: Loss, precision: Precision, metrics: Metrics
) -> float:
    """Runs the accumulator's model in eval mode, micro-batch by micro-batch, then restores each module's mode. The
    metrics are reset and see all samples. NaN: the samples' weights are all 0."""
    weighting, device, sync = accumulator.weighting, accumulator.device, accumulator.sync
    model, forward = unwrap(accumulator.model), without_ddp(accumulator.model)
    was_training = accumulator.model.training
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    weight_sum: Any = 0.0
    samples = 0
    metrics.reset()
    modes = {module: module.training for module in model.modules()}  # frozen layers may be in eval mode during training
    model.eval()
    sync.share_buffers()
    try:
        with torch.no_grad(), weighting.of_loader(loader):
            for part, is_stand_in in _micro_batches(loader, accumulator):
                inputs, targets = batches.to_device(part, device)
                graphs.begin()
                with precision.autocast():
                    outputs = batches.forward(forward, inputs)
                    loss = loss_function(outputs, targets)
                check_scalar_loss(loss)
                if is_stand_in:
                    continue
                samples += batches.length(part)
                weight = weighting.weigh(*part)
                if weighting.reduction == "mean":
                    loss = _times(loss, weight)
                loss_sum += loss.reshape(())
                weight_sum = weight_sum + weight
                if metrics:
                    metrics.update(batches.detach(outputs), targets)
    finally:
        sync.after_forwards()
        accumulator.model.training = was_training
        for module, mode in modes.items():
            module.training = mode
    loss_total, weight_total, samples_total = accumulator.ranks.sum(float(loss_sum), float(weight_sum), samples)
    if samples_total == 0:
        raise ArgumentError("the loader to evaluate on is empty")
    return loss_total / weight_total if weight_total else math.nan


def _times(loss: Tensor, weight: float | Tensor) -> Tensor:
    """In float64, the loss times its weight; the loss of a micro-batch of weight 0 is 0 / 0, and doesn't count."""
    if isinstance(weight, Tensor):
        weight = weight.to(loss.device, non_blocking=True)  # the batch may come from another device
        return torch.where(weight != 0, loss.double() * weight, 0)
    return loss.double() * weight if weight else torch.zeros_like(loss, dtype=torch.float64)


def _micro_batches(loader: Iterable[Any], accumulator: Accumulator) -> Iterator[tuple[Pair, bool]]:
    """(micro-batch, whether it is a stand-in, which counts nothing: see lockstep.py)."""
    pairs = (pair for pair in map(batches.split_pair, without_padding(loader)) if batches.length(pair))
    in_step = Lockstep(accumulator.ranks, accumulator.model, accumulator.device) if accumulator.sync.in_step else None
    size = accumulator.micro_batch
    counted: Iterator[tuple[Pair | None, int, bool]] = (
        ((pair, count(pair, size), False) for pair in pairs) if in_step is None else in_step.batches(pairs, size)
    )
    for pair, micro_batches, _ in counted:
        length = 0 if pair is None else batches.length(pair)
        for number in range(micro_batches):
            first, each = number * (size or length), size or length
            if first < length:
                yield batches.narrow(pair, first, min(each, length - first)), False
            elif in_step is not None:
                yield in_step.stand_in(), True
                in_step.done()


def without_padding(loader: Iterable[Any]) -> Iterator[Any]:
    """The loader's batches, without the samples that only fill up the last one, so that all ranks have equally many:
    another rank has them too, and the numbers would depend on how many ranks there are."""
    iterator = iter(loader)
    last, padding = _padding(loader)
    for number, batch in enumerate(iterator, 1):
        if number == last and padding:
            count = batches.length(batch) - padding
            if count > 0:
                yield batches.narrow(batch, 0, count)
        else:
            yield batch


def _padding(loader: Any) -> tuple[int, int]:
    """(number of the last batch, how many samples at its end are padding), of the iteration that has just begun."""
    if isinstance(loader, Loader) and not isinstance(loader.plan, SamplerPlan):
        padding = loader.padding
        return (loader.remaining, padding) if padding else (0, 0)
    sampler: Any = _sampler_of(loader)
    size: int | None = None
    drop_last = False
    if isinstance(loader, Loader):
        size, drop_last = loader.plan.batch_size, loader.plan.drop_last
    if type(sampler) is BatchSampler:
        sampler, size, drop_last = sampler.sampler, sampler.batch_size, sampler.drop_last
    share = share_of(sampler)
    if share is None or size is None or (drop_last and share.length % size):
        return 0, 0  # all samples, single ones, or the last one is in no batch
    return loader.remaining if isinstance(loader, Loader) else len(loader), share.padding


def _sampler_of(loader: Any) -> Any:
    """What gives the loader its samples or batches: for a DataLoader its batch sampler."""
    if isinstance(loader, Loader):
        return loader.plan.sampler if isinstance(loader.plan, SamplerPlan) else None
    return loader.batch_sampler if isinstance(loader, DataLoader) else loader


def check_world(loader: Any, world_size: int) -> None:
    """Raises ArgumentError for a loader that shares its samples out over another number of ranks than the run has."""
    found = loader.world_size if isinstance(loader, Loader) else None
    if found is None:
        parts = nested(_sampler_of(loader) if isinstance(loader, Loader) else loader)
        found = next((share.world_size for share in map(share_of, parts) if share is not None), None)
    if found is not None and found != world_size:
        raise ArgumentError(
            f"the loader shares its samples out over {found} rank{'s' * (found != 1)}, and the run has {world_size}: "
            "leave rank and world_size out, or give those of torch.distributed"
        )
