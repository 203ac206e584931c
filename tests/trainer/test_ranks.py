"""Two processes over gloo: the step is that of one process that saw all samples."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler

import largeds_native as lds
from largeds_native.errors import ArgumentError, NonFiniteError
from largeds_native.trainer import Callback, CheckpointFolder, StoppedBySignal, Trainer, readback
from largeds_native.trainer.ranks import unwrap
from tests.builders.stores import make_labelled_store
from tests.trainer.helpers import Stop, StopAt, numbers, parameters_of, samples, small_model
from tests.trainer.processes import run

# samples of each batch, by rank: unequal batches, partial groups, and a rank that runs out of data early
PLANS = {
    "equal": ([4, 4, 4, 4], [4, 4, 4, 4]),
    "unequal": ([4, 4, 3], [4, 2, 5]),
    "a rank ends early": ([4, 4, 4, 4, 2], [4, 3]),
    "a rank has nothing": ([4, 4, 4], []),
}


def cut(sizes, start, inputs, targets):
    batches = []
    for size in sizes:
        batches.append((inputs[start : start + size], targets[start : start + size]))
        start += size
    return batches


def make(model, reduction="mean", **options):
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    return Trainer(model, optimizer, nn.CrossEntropyLoss(reduction=reduction), progress=False, **options)


@pytest.mark.parametrize(("count", "warned"), [("2", 1), ("1", 0)])
def test_processes_of_torchrun_that_are_not_joined(monkeypatch, recwarn, count, warned):
    """Each would train on its own, and all of them write the same checkpoints."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", count)
    make(small_model()).fit(cut([4, 4], 0, *samples(8)), 1)
    messages = [str(warning.message) for warning in recwarn]
    assert sum("torch.distributed is not initialised" in message for message in messages) == warned, messages


def count_all_reduces(model: DistributedDataParallel) -> list[int]:
    """Counts DDP's all-reduces by a hook."""
    counts = [0]

    def hook(state, bucket):
        counts[0] += 1
        future = dist.all_reduce(bucket.buffer().div_(dist.get_world_size()), async_op=True).get_future()
        return future.then(lambda f: f.value()[0])

    model.register_comm_hook(None, hook)
    return counts


def check_gradients(rank: int, folder: Path) -> None:
    """All plans: after two epochs, parameters equal those of one process; one all-reduce of gradients per step."""
    for name, plan in PLANS.items():
        for reduction in ("mean", "sum"):
            for accumulate in (1, 2):
                total = sum(map(sum, plan))
                inputs, targets = samples(total, torch.float64)
                ddp = DistributedDataParallel(small_model().double())
                counts = count_all_reduces(ddp)
                trainer = make(ddp, reduction, accumulate=accumulate, micro_batch=2)
                history = trainer.fit(cut(plan[rank], 0 if rank == 0 else sum(plan[0]), inputs, targets), 2)
                twin = small_model().double()
                optimizer = torch.optim.SGD(twin.parameters(), 0.1, momentum=0.9)
                both = [cut(plan[0], 0, inputs, targets), cut(plan[1], sum(plan[0]), inputs, targets)]
                steps = -(-max(map(len, both)) // accumulate)
                for _ in range(2):
                    for i in range(steps):
                        group = [b for batches in both for b in batches[i * accumulate : (i + 1) * accumulate]]
                        optimizer.zero_grad()
                        outputs = twin(torch.cat([x for x, _ in group]))
                        loss = nn.functional.cross_entropy(
                            outputs, torch.cat([y for _, y in group]), reduction=reduction
                        )
                        loss.backward()
                        optimizer.step()
                case = f"{name}, {reduction}, accumulate={accumulate}"
                close = torch.allclose(parameters_of(ddp), parameters_of(twin), rtol=0, atol=1e-12)
                assert close, case
                assert trainer.step == 2 * steps, case
                if name in ("equal", "unequal"):
                    assert counts[0] == 2 * steps, f"{case}: {counts[0]} all-reduces in {2 * steps} steps"
                assert history[0]["train_loss"] == trainer.ranks.first(history[0]["train_loss"]), case


def check_ignored(rank: int, folder: Path) -> None:
    """If the last micro-batch or all samples of a rank are ignored, the step is a mean over the other samples."""
    inputs, targets = samples(16, torch.float64)
    for ignored in (slice(12, 16), slice(8, 16)):
        labels = targets.clone()
        labels[ignored] = -100
        ddp, twin = DistributedDataParallel(small_model().double()), small_model().double()
        trainer = make(ddp, accumulate=2)
        (logs,) = trainer.fit(cut([4, 4], rank * 8, inputs, labels), 1)
        loss = nn.functional.cross_entropy(twin(inputs), labels)
        loss.backward()
        torch.optim.SGD(twin.parameters(), 0.1, momentum=0.9).step()
        torch.testing.assert_close(parameters_of(ddp), parameters_of(twin), rtol=0, atol=1e-12)
        assert abs(logs["train_loss"] - loss.item()) < 1e-12


class InBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise torch.OutOfMemoryError("injected")


def check_reading_later(rank: int, folder: Path) -> None:
    """As on CUDA devices: a loss that is not finite on one rank skips the step on both, or raises on both."""
    readback.DEFERRED = frozenset({"cpu"})
    inputs, targets = samples(48)
    batches = cut([4] * 6, rank * 24, inputs, targets)
    if rank == 1:
        batches[2][0][0] = float("nan")
    trainer = make(small_model(), on_nonfinite="skip")
    trainer.fit(batches, 1)
    assert (trainer.skipped, trainer.step) == (1, 6)
    assert parameters_of(trainer.model).isfinite().all()
    trainer = make(small_model())
    with pytest.raises(NonFiniteError, match="at step 2, samples 8 to 11"):
        trainer.fit(batches, 1)
    assert trainer.step == 2


def check_numbers_that_one_rank_has_first(rank: int, folder: Path) -> None:
    """The error comes at the same place on both: otherwise the other rank would wait for this one."""
    readback.DEFERRED = frozenset({"cpu"})
    readback.Readback.ready = property(lambda _: rank == 0)  # type: ignore[assignment, method-assign]
    inputs, targets = samples(48)
    batches = cut([4] * 6, rank * 24, inputs, targets)
    batches[2][0][0] = float("nan")
    trainer = make(small_model())
    with pytest.raises(NonFiniteError, match="at step 2, samples 8 to 11"):
        trainer.fit(batches, 1)
    assert trainer.ranks.sum(100.0) == [200.0]  # whatever comes next, they do it together
    trainer = make(small_model(), on_nonfinite="skip")
    trainer.fit(batches, 1)
    assert (trainer.skipped, trainer.step) == (1, 6)


def check_memory(rank: int, folder: Path) -> None:
    """If one rank runs out of memory, both continue with half, with the result of starting with half."""
    inputs, targets = samples(32)
    batches = cut([8, 8], rank * 16, inputs, targets)

    class Fails(nn.Module):
        def __init__(self, where):
            super().__init__()
            self.where, self.calls = where, 0

        def forward(self, x):
            self.calls += 1
            if rank == 1 and self.calls == 2:
                if self.where == "forward":
                    raise torch.OutOfMemoryError("injected")
                return InBackward.apply(x)
            return x

    for where in ("forward", "backward"):
        results = []
        for fails, micro_batch in ((Fails(where), "auto"), (nn.Identity(), 4)):
            model = small_model(norm=True, dropout=0.3)
            model.insert(3, fails)
            torch.manual_seed(rank)
            trainer = make(model, accumulate=2, micro_batch=micro_batch)
            trainer.fit(batches, 2)
            results.append(parameters_of(model))
            assert trainer.accumulator.micro_batch == 4
        torch.testing.assert_close(*results)
        everyone = trainer.ranks.gather(results[0])
        assert torch.equal(everyone[0], everyone[1])


def check_resume(rank: int, folder: Path) -> None:
    """Rank 0 writes; each rank restores its own position and random state."""

    class Stop(Callback):
        def on_step(self, trainer, result):
            if trainer.step == 4:
                raise InterruptedError

    inputs, targets = samples(40)
    batches = cut([4] * 5, rank * 20, inputs, targets)

    def run(name, seed, callbacks=()):
        model = small_model(dropout=0.3)
        trainer = make(
            model,
            accumulate=2,
            checkpoint_dir=folder / name,
            checkpoint_every=1,
            callbacks=callbacks,
            metrics={"accuracy": accuracy},
        )
        torch.manual_seed(seed + rank)
        try:
            history = trainer.fit(batches, 2, batches[: 1 + rank])
        except InterruptedError:
            history = []
        return parameters_of(model), [
            {k: v for k, v in logs.items() if k not in ("images_per_s", "data_share")} for logs in history
        ]

    whole = run("whole", 5)
    run("cut", 5, [Stop()])
    resumed = run("cut", 99)
    assert torch.equal(whole[0], resumed[0])
    assert whole[1] == resumed[1]


def accuracy(outputs, targets):
    return (outputs.argmax(1) == targets).double().mean()


class ToDouble(nn.Module):
    def forward(self, x):
        return x.double()


def check_loader(rank: int, folder: Path) -> None:
    """With the package's Loader, each rank gets its part of each global batch, also after a resume.

    Metrics are over all ranks, and only rank 0 writes.
    """
    if rank != 0:
        CheckpointFolder.save = None  # to call it would fail
    if rank == 0:
        images = np.random.default_rng(0).integers(0, 256, (44, 3, 4, 4), np.uint8)
        lds.pack((images, np.arange(44) % 3), folder / "s.lds", resize=None, crop=None, progress=False)
    dist.barrier()
    store = lds.open(folder / "s.lds")
    augment = lds.Augment(random_crop=4, padding=1, flip=0.5)

    def model_of(dropout: float) -> nn.Module:
        torch.manual_seed(0)
        layers = [ToDouble(), nn.Flatten(), nn.Linear(48, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 3)]
        return nn.Sequential(*layers).double()

    def run(name: str, seed: int, callbacks=(), dropout: float = 0.3):
        model = model_of(dropout)
        kwargs = {"checkpoint_dir": folder / name, "checkpoint_every": 1, "callbacks": callbacks}
        trainer = make(model, accumulate=2, metrics={"accuracy": accuracy}, **kwargs)
        torch.manual_seed(seed + rank)
        with contextlib.suppress(Stop):
            trainer.fit(lds.Loader(store, 6, shuffle=True, augment=augment, seed=1), 2, lds.Loader(store, 9))
        return parameters_of(model), numbers(trainer.history)

    whole, history = run("plain", 5, dropout=0.0)
    twin = model_of(0.0)  # one process with batches of 12: the last has 8
    optimizer = torch.optim.SGD(twin.parameters(), 0.1, momentum=0.9)
    loader = lds.Loader(store, 12, shuffle=True, augment=augment, seed=1, rank=0, world_size=1)
    for _ in range(2):
        batches = list(loader)
        for group in (batches[:2], batches[2:]):
            optimizer.zero_grad()
            outputs = twin(torch.cat([x for x, _ in group]))
            nn.functional.cross_entropy(outputs, torch.cat([y for _, y in group])).backward()
            optimizer.step()
    torch.testing.assert_close(whole, parameters_of(twin), rtol=0, atol=1e-12)
    with torch.no_grad():
        everything = next(iter(lds.Loader(store, 44, rank=0, world_size=1)))
        outputs = twin(everything[0])
    expected = nn.functional.cross_entropy(outputs, everything[1]).item()
    assert abs(history[-1]["val_loss"] - expected) < 1e-12
    assert abs(history[-1]["val_accuracy"] - accuracy(outputs, everything[1]).item()) < 1e-12

    whole, history = run("whole", 5)
    for stop in (2, 4):  # the checkpoints are of steps 1 and 3: within an epoch of two steps
        run(f"cut-{stop}", 5, [StopAt(stop)])
        resumed, again = run(f"cut-{stop}", 99)
        assert torch.equal(whole, resumed)
        assert again == history


def check_evaluation(rank: int, folder: Path) -> None:
    """A validation number does not depend on how many ranks there are: what only fills a batch up is left out."""
    if rank == 0:
        labels = np.array([0, 1, 1, 1, 1, 1, 1])
        images = np.random.default_rng(0).integers(0, 256, (7, 3, 4, 4), np.uint8)
        lds.pack((images, labels), folder / "s.lds", resize=None, crop=None, progress=False)
    dist.barrier()
    store = lds.open(folder / "s.lds")
    torch.manual_seed(0)
    model = nn.Sequential(ToDouble(), nn.Flatten(), nn.Linear(48, 3)).double()
    trainer = make(model, metrics={"class 0": lambda outputs, targets: (targets == 0).double().mean()})
    dataset = lds.StoreDataset(store, lambda image: image / 255)
    with torch.no_grad():
        images, labels = next(iter(lds.Loader(store, 7, rank=0, world_size=1)))
        expected = nn.functional.cross_entropy(unwrap(trainer.model)(images), labels).item()
    distributed = DistributedSampler(dataset, shuffle=False)
    for size in (1, 2, 3, 4, 7):
        loaders = [
            lds.Loader(store, size),
            lds.Loader(store, size, shuffle=True, seed=3),
            DataLoader(dataset, size, sampler=distributed),
            DataLoader(dataset, size, sampler=lds.ShuffleSampler(7, rank=rank, world_size=2)),
            lds.Loader(store, size, order=distributed),
            lds.Loader(store, size, order=lds.ShuffleSampler(7, rank=rank, world_size=2)),
            lds.Loader(store, None, order=BatchSampler(distributed, size, drop_last=False)),
            DataLoader(dataset, batch_sampler=BatchSampler(distributed, size, drop_last=False)),
        ]
        for loader in loaders:
            found = trainer.evaluate(loader)
            assert abs(found["class 0"] - 1 / 7) < 1e-12, (size, loader, found)
            assert abs(found["loss"] - expected) < 1e-6, (size, loader, found)


def check_world(rank: int, folder: Path) -> None:
    """A loader that shares its samples out over other ranks than the run's is refused, before the first step."""
    store = lds.open(make_labelled_store(folder / f"rank {rank}").path)
    trainer = make(nn.Linear(1, 1))
    for loader in (
        lds.Loader(store, 8, rank=0, world_size=1),
        DataLoader(range(10), sampler=DistributedSampler(range(10), num_replicas=3, rank=0)),
        DataLoader(range(10), sampler=lds.ShuffleSampler(10)),
        lds.Loader(store, 8, order=lds.ShuffleSampler(len(store))),
    ):
        for call in (lambda it: trainer.fit(it, 1), lambda it: trainer.fit([], 1, it), trainer.evaluate):
            with pytest.raises(ArgumentError, match=r"ranks?, and the run has 2"):
                call(loader)


def check_empty_batches(rank: int, folder: Path) -> None:
    """A batch without samples, at any place of one rank or of both: the step is that of the others."""
    inputs, targets = samples(16, torch.float64)
    nothing = (inputs[:0], targets[:0])
    for at in range(4):
        for both in (False, True):
            batches = [cut([4, 4], 0, inputs, targets), cut([4, 4], 8, inputs, targets)]
            for number in (0, 1) if both else (1,):
                batches[number][at:at] = [nothing] if at < 3 else [nothing, nothing]
            ddp, twin = DistributedDataParallel(small_model().double()), small_model().double()
            optimizer = torch.optim.SGD(twin.parameters(), 0.1, momentum=0.9)
            make(ddp, accumulate=2).fit(batches[rank], 1)
            for i in range(0, 4, 2):
                group = [pair for part in batches for pair in part[i : i + 2]]
                labels = torch.cat([y for _, y in group])
                if len(labels):
                    optimizer.zero_grad()
                    nn.functional.cross_entropy(twin(torch.cat([x for x, _ in group])), labels).backward()
                    optimizer.step()
            torch.testing.assert_close(parameters_of(ddp), parameters_of(twin), rtol=0, atol=1e-12)


def check_unfreezing(rank: int, folder: Path) -> None:
    """A layer that DDP does not know, and one that it knows but the optimizer got later; static_graph."""
    inputs, targets = samples(16, torch.float64)
    batches = cut([4, 4], rank * 8, inputs, targets)

    class Unfreeze(Callback):
        def on_step(self, trainer, result):
            layer = unwrap(trainer.model)[0].requires_grad_(True)
            if len(trainer.optimizer.param_groups) == 1:
                trainer.optimizer.add_param_group({"params": list(layer.parameters())})

    def run(frozen, wrapped=None):
        model = small_model().double()
        if frozen:
            model[0].requires_grad_(False)
        optimizer = torch.optim.SGD(model[3].parameters(), 0.1)
        model = model if wrapped is None else wrapped(model)
        Trainer(model, optimizer, nn.CrossEntropyLoss(), callbacks=[Unfreeze()], progress=False).fit(batches, 1)
        return parameters_of(model)

    with pytest.raises(ArgumentError, match=r"2 parameters of the optimizer require gradients now"):
        run(frozen=True)
    found, twin = run(frozen=False), small_model().double()
    for first, layers in ((0, [twin[3]]), (4, [twin[0], twin[3]])):
        rows = torch.cat([torch.arange(first, first + 4), torch.arange(8 + first, 12 + first)])
        twin.zero_grad()
        nn.functional.cross_entropy(twin(inputs[rows]), targets[rows]).backward()
        torch.optim.SGD([p for layer in layers for p in layer.parameters()], 0.1).step()
    torch.testing.assert_close(found, parameters_of(twin), rtol=0, atol=1e-12)
    with pytest.raises(ArgumentError, match="leave static_graph out"):
        run(frozen=False, wrapped=lambda model: DistributedDataParallel(model, static_graph=True))


def check_signal(rank: int, folder: Path) -> None:
    """SIGTERM comes to one rank: both save and stop at the same step, and go on as if nobody had stopped them."""
    inputs, targets = samples(40)
    batches = cut([4] * 5, rank * 20, inputs, targets)

    class Terminate(Callback):
        def on_step(self, trainer, result):
            if rank == 1 and trainer.step == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    def run(name, seed, callbacks=()):
        model = small_model(dropout=0.3)
        trainer = make(model, checkpoint_dir=folder / name, callbacks=callbacks, stop_on_signal=True)
        torch.manual_seed(seed + rank)
        try:
            trainer.fit(batches, 2, batches[: 1 + rank])
        except StoppedBySignal:
            assert (trainer.step, name) == (2, "cut")
        return trainer

    whole = run("whole", 5)
    assert run("cut", 5, [Terminate()]).step == 2
    resumed = run("cut", 99)
    assert torch.equal(parameters_of(whole.model), parameters_of(resumed.model))
    assert numbers(whole.history) == numbers(resumed.history)


CHECKS = [
    check_gradients,
    check_ignored,
    check_reading_later,
    check_numbers_that_one_rank_has_first,
    check_memory,
    check_resume,
    check_loader,
    check_evaluation,
    check_world,
    check_empty_batches,
    check_unfreezing,
    check_signal,
]


@pytest.mark.parametrize("check", CHECKS)
def test_two_processes(check, tmp_path):
    run(2, check, tmp_path, 100)
