"""FSDP2 and HSDP in two and more processes over gloo: the step is that of one process that saw all samples."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from largeds_native.errors import ArgumentError, NonFiniteError
from largeds_native.trainer import EMA, Accumulator, Trainer
from tests.trainer.helpers import numbers, parameters_of, samples, small_model
from tests.trainer.processes import run
from tests.trainer.test_ranks import InBackward, accuracy, cut

fsdp = pytest.importorskip("torch.distributed.fsdp")
if not hasattr(fsdp, "fully_shard"):
    pytest.skip("fully_shard is in torch 2.6", allow_module_level=True)

# samples of each batch, by rank
PLANS = {
    "unequal": ([4, 4, 3], [4, 2, 5], [1, 4, 4], [4, 4]),
    "a rank ends early": ([4, 4, 4, 4, 2], [4, 3], [4, 4, 4], [4]),
    "a rank has nothing": ([4, 4, 4], [], [2], [3]),
    "empty batches": ([4, 0, 4, 4], [0, 0, 3], [0, 2], [0]),
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


def check_gradients(rank: int, folder: Path, meshes=((),), plans=PLANS) -> None:
    """All plans, accumulate 1 to 3, both ways to sync, clipping, and targets that weigh nothing, on each mesh."""
    world_size = dist.get_world_size()
    for shape, name in itertools.product(meshes, plans):
        plan = PLANS[name][:world_size]
        mesh = dist.device_mesh.init_device_mesh("cpu", shape, mesh_dim_names=("r", "s")) if shape else None
        inputs, targets = samples(sum(map(sum, plan)), torch.float64)
        targets[5:12:2] = -100
        targets[-4:] = -100
        all_batches = split(plan, inputs, targets)
        for accumulate, sync, clip in itertools.product((1, 2, 3), ("each", "last"), (None, 0.3)):
            model = sharded(small_model().double(), mesh)
            options = {"accumulate": accumulate, "micro_batch": 2, "sync": sync, "clip_grad_norm": clip}
            found, results = trained(model, all_batches[rank], weight=not_ignored, **options)
            expected, norms = reference(all_batches, accumulate, clip=clip)
            case = (shape, name, options)
            assert torch.allclose(found, expected, rtol=0, atol=1e-12), case
            assert [r.gradient_norm for r in results if r.gradient_norm] == pytest.approx(norms, abs=1e-12), case
            assert sum(r.samples for r in results) == sum(len(x) for x, _ in all_batches[rank]), case


def check_trainer(rank: int, folder: Path) -> None:
    """Trainer, EMA, metrics and validation, with unequal batches: the numbers are those of DDP."""
    world_size = dist.get_world_size()
    plan = ([4, 4, 4, 3], [4, 2], [3, 4, 1])[:world_size]
    inputs, targets = samples(sum(map(sum, plan)), torch.float64)
    batches = split(plan, inputs, targets)[rank]
    found = []
    for wrap in (sharded, lambda model: model):  # Trainer wraps the second one in DistributedDataParallel
        model = wrap(small_model().double())
        optimizer = torch.optim.AdamW(model.parameters(), 0.01)
        ema = EMA(0.9)
        trainer = Trainer(
            model,
            optimizer,
            nn.CrossEntropyLoss(),
            accumulate=2,
            micro_batch=2,
            clip_grad_norm=0.5,
            scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4),
            metrics={"accuracy": accuracy},
            callbacks=[ema],
            progress=False,
        )
        validation = [] if rank == 1 else batches[: 1 + rank]  # rank 1 never has a sample
        history = numbers(trainer.fit(batches, 3, validation))
        own = whole(model) if wrap is sharded else parameters_of(model)
        average = [getattr(value, "full_tensor", lambda value=value: value)() for value in ema.average.values()]
        found.append((own, torch.cat([value.flatten() for value in average]), history))
    for ours, theirs in zip(found[0][:2], found[1][:2], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    for ours, theirs in zip(found[0][2], found[1][2], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-12)


def check_nothing_is_left_behind(rank: int, folder: Path) -> None:
    """Dropout and BatchNorm: stand-ins change neither random state nor statistics; NaN of 0 / 0 goes nowhere; an
    interrupted group leaves no gradients; not finite anywhere is skipped everywhere."""
    inputs, targets = samples(16, torch.float64)
    own = cut([4, 4] if rank == 0 else [4], 8 * rank, inputs, targets)
    model = sharded(small_model(norm=True, dropout=0.5).double())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    accumulator = Accumulator(model, optimizer, accumulate=2, micro_batch=2, sync="last")
    stand_ins = 0
    for group in accumulator.groups(own):
        for images, labels in group:
            before = torch.get_rng_state(), model[1].running_mean.clone()
            stand_in = group.stand_in
            group.backward(nn.functional.cross_entropy(model(images), labels))
            stand_ins += stand_in
            if stand_in:
                assert torch.equal(before[0], torch.get_rng_state())
                assert torch.equal(before[1], model[1].running_mean)
        group.step()
    assert stand_ins == 2 * rank

    def masked_mean(outputs, labels):  # 0 / 0 where all are masked
        mask = (labels != -100).double()
        return (nn.functional.cross_entropy(outputs, labels, reduction="none") * mask).sum() / mask.sum()

    model, twin = sharded(small_model().double()), small_model().double()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    accumulator = Accumulator(model, optimizer, sync="last", accumulate=2, weight=not_ignored, on_nonfinite="skip")
    labels = targets.clone()
    labels[4:8] = labels[8:12] = -100
    images, _ = next(iter(next(accumulator.groups(cut([4], 0, inputs * 99, labels)))))
    model(images).sum().backward()  # and no step
    for group in accumulator.groups(cut([4, 4], 8 * rank, inputs, labels)):
        for images, marks in group:
            group.backward(masked_mean(model(images), marks))
        assert group.step().stepped
    masked_mean(twin(inputs), labels).backward()
    torch.optim.SGD(twin.parameters(), 0.1).step()
    torch.testing.assert_close(whole(model), parameters_of(twin), rtol=0, atol=1e-12)
    before = whole(model)
    for policy in ("skip", "raise"):
        accumulator.on_nonfinite = policy
        for group in accumulator.groups(cut([4], 0, inputs * (float("nan") if rank else 1), targets)):
            for images, marks in group:
                group.backward(masked_mean(model(images), marks))
            if policy == "skip":
                assert not group.step().stepped
            else:
                with pytest.raises(NonFiniteError):
                    group.step()
    assert torch.equal(before, whole(model))


def check_mixed_precision(rank: int, folder: Path) -> None:
    """bfloat16 in forward, gradients summed in float32: near to float32, and the same for both ways to sync; float16
    with a GradScaler, whose step is skipped on both ranks if the gradients of one overflow."""
    inputs, targets = samples(32)
    own = cut([4, 4, 4, 4], 16 * rank, inputs, targets)
    policy = fsdp.MixedPrecisionPolicy(torch.bfloat16, torch.float32, torch.float32)
    found = [
        trained(sharded(small_model(), **o), own, accumulate=2, sync=s)[0]
        for o, s in (({"mp_policy": policy}, "each"), ({"mp_policy": policy}, "last"), ({}, "last"))
    ]
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-3)
    torch.testing.assert_close(found[0], found[2], rtol=0, atol=1e-2)
    model = sharded(small_model())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    accumulator = Accumulator(model, optimizer, scaler=torch.amp.GradScaler("cpu"), accumulate=2)
    stepped = []
    for number, group in enumerate(accumulator.groups(own)):
        for images, labels in group:
            with torch.autocast("cpu", torch.float16):
                loss = nn.functional.cross_entropy(model(images), labels)
            group.backward(loss * (1e38 if number == 1 and rank == 1 else 1))
        stepped.append(group.step().stepped)
    assert stepped == [True, False]


class TooLarge(nn.Module):
    """Runs out of memory with more than 4 samples, on rank 1 alone."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where if dist.get_rank() == 1 else ""

    def forward(self, x):
        if len(x) > 4 and self.where == "forward":
            raise torch.OutOfMemoryError("injected")
        return InBackward.apply(x) if len(x) > 4 and self.where == "backward" else x


def check_memory(rank: int, folder: Path) -> None:
    """A rank that runs out of memory, in forward or backward: all ranks go on with half, as if they had begun so."""
    if not hasattr(fsdp.FSDPModule, "reset_iter_state"):  # older versions of torch can't, and the error says so
        return
    inputs, targets = samples(40)
    own = cut([8, 8] if rank else [16, 8], 24 * rank, inputs, targets)
    for where, sync, mesh in itertools.product(("forward", "backward"), ("each", "last"), (None, (2, 1))):
        if mesh is not None:
            mesh = dist.device_mesh.init_device_mesh("cpu", mesh, mesh_dim_names=("r", "s"))
        found = []
        for micro_batch, fails in (("auto", where), (4, "")):
            model = small_model(norm=True, dropout=0.3)
            model.insert(2, TooLarge(fails))
            model = sharded(model, mesh)
            optimizer = torch.optim.AdamW(model.parameters(), 0.01)
            kwargs = {"accumulate": 2, "micro_batch": micro_batch, "sync": sync, "progress": False}
            trainer = Trainer(model, optimizer, nn.CrossEntropyLoss(), metrics={"accuracy": accuracy}, **kwargs)
            torch.manual_seed(rank)
            history = trainer.fit(own, 3)
            found.append((whole(model), numbers(history), trainer.accumulator.micro_batch))
        assert found[0][1:] == found[1][1:]
        assert torch.equal(found[0][0], found[1][0])
    assert found[0][2] == 4
    model = small_model()
    model.insert(1, OutOfMemory())
    trainer = Trainer(sharded(model), torch.optim.SGD(model.parameters(), 1), nn.CrossEntropyLoss(), micro_batch="auto")
    with pytest.raises(torch.OutOfMemoryError, match=r"one sample does not fit: (injected|on another rank)"):
        trainer.fit(own, 1)


class OutOfMemory(nn.Module):
    def forward(self, x):
        if dist.get_rank() == 1:
            raise torch.OutOfMemoryError("injected")
        return x


def check_bad_input(rank: int, folder: Path) -> None:
    """What can't be trained right is refused, on every rank."""

    def refused(match, model, optimizer=None, make=Accumulator, **options):
        optimizer = optimizer or torch.optim.SGD(model.parameters(), 0.1)
        loss = [nn.CrossEntropyLoss()] if make is Trainer else []
        with pytest.raises(ArgumentError, match=match):
            make(model, optimizer, *loss, **options)

    layers = small_model()
    fsdp.fully_shard(layers[0])
    plain = small_model()
    before = torch.optim.SGD(plain.parameters(), 0.1)
    late = sharded(plain)
    fsdp1 = fsdp.FullyShardedDataParallel.__new__(fsdp.FullyShardedDataParallel)
    nn.Module.__init__(fsdp1)  # its own needs a GPU
    for make in (Accumulator, Trainer):
        refused(r"applied to layers \('0'\), but not to the model itself", layers, make=make)
        refused("make the optimizer after it", late, before, make=make)
        refused("FSDP1", fsdp1, before, make=make)
        for around in (nn.Sequential, nn.Module.train):  # fully_shard on a module that holds it, and on itself
            both = fsdp.fully_shard(around(DistributedDataParallel(nn.Linear(6, 3))))
            refused("give one of them", both, make=make)
        refused("is for models that fully_shard", DistributedDataParallel(small_model()), make=make, sync="each")
        refused("expected sync 'each' or 'last', found 'never'", late, make=make, sync="never")
    refused("not sharded by fully_shard", small_model())
    half = dist.device_mesh.init_device_mesh("cpu", (2, 1), mesh_dim_names=("model", "data"))["data"]
    refused("sharded over a mesh of 1 ranks, and the run has 2", sharded(small_model(), half))
    ignoring = small_model()
    fsdp.fully_shard(ignoring, ignored_params={ignoring[0].weight})
    refused("1 parameters to train are not sharded", ignoring)
    divided = sharded(small_model())
    if hasattr(divided, "set_gradient_divide_factor"):
        divided[0].set_gradient_divide_factor(1.0)
        refused("set_gradient_divide_factor", divided)
    model = sharded(small_model())
    refused("differs between the ranks: True on rank 0, False on 1", small_model() if rank else model)
    model = nn.Linear(1, 1, device="meta" if rank else "cpu")
    refused("kind of device of the model differs between the ranks: cpu on rank 0, meta on 1", model)
    version, torch.__version__ = torch.__version__, "2.99" if rank else torch.__version__
    refused(
        r"version of torch differs between the ranks: 2\.\S+ on rank 0, 2.99 on 1: install the same one everywhere",
        late,
    )
    torch.__version__ = version


def check_all_else(rank: int, folder: Path) -> None:
    """In one start of the processes, which takes longer than the checks."""
    for check in (check_trainer, check_nothing_is_left_behind, check_mixed_precision, check_memory, check_bad_input):
        check(rank, folder)


def check_replicas(rank: int, folder: Path) -> None:
    check_gradients(rank, folder, meshes=((2, 1), (1, 2)))


def check_four(rank: int, folder: Path) -> None:
    check_gradients(rank, folder, meshes=((2, 2),), plans=("a rank has nothing",))


@pytest.mark.parametrize(
    ("world_size", "check"),
    [(2, check_gradients), (3, check_gradients), (2, check_replicas), (4, check_four), (2, check_all_else)],
)
def test_ranks(world_size, check, tmp_path):
    run(world_size, check, tmp_path)
