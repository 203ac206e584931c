"""FSDP2 and HSDP in two and more processes over gloo: the step is that of one process that saw all samples."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from largeds_native.trainer import Accumulator
from tests.trainer.helpers import parameters_of, samples, small_model
from tests.trainer.processes import run
from tests.trainer.test_ranks import cut

fsdp = pytest.importorskip("torch.distributed.fsdp")
if not hasattr(fsdp, "fully_shard"):
    pytest.skip("fully_shard is in torch 2.6", allow_module_level=True)

# samples of each batch, by rank
PLANS = {
    "equal": ([4, 4, 4, 4], [4, 4, 4, 4], [4, 4, 4, 4]),
    "unequal": ([4, 4, 3], [4, 2, 5], [1, 4, 4]),
    "a rank ends early": ([4, 4, 4, 4, 2], [4, 3], [4, 4, 4]),
    "a rank has nothing": ([4, 4, 4], [], [2]),
    "empty batches": ([4, 0, 4, 4], [0, 0, 3], [0, 2]),
}


def sharded(model: nn.Module, mesh=None, **options) -> nn.Module:
    """Its layers, and what is left."""
    options = {"mesh": mesh} | options
    for layer in (model[0], model[-1]):
        fsdp.fully_shard(layer, **options)
    return fsdp.fully_shard(model, **options)


def whole(model: nn.Module) -> torch.Tensor:
    """All parameters, gathered from the ranks."""
    return torch.cat([p.detach().full_tensor().flatten() for p in model.parameters()])


def split(plan, inputs, targets):
    """The batches of each rank."""
    starts = [sum(map(sum, plan[:rank])) for rank in range(len(plan))]
    return [cut(sizes, start, inputs, targets) for sizes, start in zip(plan, starts, strict=True)]


def reference(all_batches, accumulate, epochs=1, clip=None, reduction="mean"):
    """One process with all samples of a step in one batch."""
    twin = small_model().double()
    optimizer = torch.optim.SGD(twin.parameters(), 0.1, momentum=0.9)
    steps = -(-max(map(len, all_batches)) // accumulate)
    norms = []
    for i in [*range(steps)] * epochs:
        group = [pair for own in all_batches for pair in own[i * accumulate : (i + 1) * accumulate]]
        labels = torch.cat([y for _, y in group])
        optimizer.zero_grad()
        if (labels != -100).any():
            outputs = twin(torch.cat([x for x, _ in group]))
            nn.functional.cross_entropy(outputs, labels, reduction=reduction).backward()
            norms.append(nn.utils.clip_grad_norm_(twin.parameters(), clip or float("inf")).item())
            optimizer.step()
    return parameters_of(twin), norms


def trained(model, batches, **options):
    """The parameters after one epoch, with the results of its steps."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    function = nn.CrossEntropyLoss(reduction=options.get("reduction", "mean"))
    weight = options.pop("weight", None)
    accumulator = Accumulator(model, optimizer, weight=weight, **options)
    results = []
    for group in accumulator.groups(batches):
        for inputs, targets in group:
            group.backward(function(model(inputs), targets))
        results.append(group.step())
    return whole(model), results


def not_ignored(inputs, targets):
    return float((targets != -100).sum())


def check_gradients(rank: int, folder: Path, meshes=((),)) -> None:
    """All plans, accumulate 1 to 3, both ways to sync, clipping, and targets that weigh nothing, on each mesh."""
    world_size = dist.get_world_size()
    for shape, (name, plan) in itertools.product(meshes, PLANS.items()):
        mesh = dist.device_mesh.init_device_mesh("cpu", shape, mesh_dim_names=("r", "s")) if shape else None
        inputs, targets = samples(sum(map(sum, plan[:world_size])), torch.float64)
        targets[5:12:2] = -100
        targets[-4:] = -100
        all_batches = split(plan[:world_size], inputs, targets)
        for accumulate, sync, clip in itertools.product((1, 2, 3), ("each", "last"), (None, 0.3)):
            model = sharded(small_model().double(), mesh)
            options = {"accumulate": accumulate, "micro_batch": 2, "sync": sync, "clip_grad_norm": clip}
            found, results = trained(model, all_batches[rank], weight=not_ignored, **options)
            expected, norms = reference(all_batches, accumulate, clip=clip)
            case = (shape, name, options)
            assert torch.allclose(found, expected, rtol=0, atol=1e-12), case
            assert [r.gradient_norm for r in results if r.gradient_norm] == pytest.approx(norms, abs=1e-12), case
            assert sum(r.samples for r in results) == sum(len(x) for x, _ in all_batches[rank]), case


HYBRID = [functools.partial(check_gradients, meshes=((2, 1), (1, 2)))]


@pytest.mark.parametrize("world_size", [2, 3])
def test_gradients_equal_one_process(world_size, tmp_path):
    run(world_size, check_gradients, tmp_path)


def test_gradients_with_replicas(tmp_path):
    run(2, HYBRID[0], tmp_path)
