"""The Trainer on a CUDA device. Without one, what can be is run with the CPU in its place, treated as a device whose
numbers are read later; what needs CUDA itself is skipped."""

from __future__ import annotations

import copy
import math
import shutil
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from largeds_native.errors import NonFiniteError
from largeds_native.trainer import EMA, Accumulator, Callback, StepResult, Trainer, graphs, optimizer_step, readback
from tests.trainer.helpers import numbers, parameters_of, samples, small_model

HAS_CUDA = torch.cuda.is_available()
needs_cuda = pytest.mark.skipif(not HAS_CUDA, reason="no CUDA device")
needs_compiler = pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")
DEVICE = "cuda" if HAS_CUDA else "cpu"
# torch's own, of what these tests use
pytestmark = [
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype"),
    pytest.mark.filterwarnings("ignore:`torch.jit"),
    pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores"),  # torch 2.11, when it compiles
    pytest.mark.filterwarnings("ignore:Please use the new API settings"),  # torch 2.9, the same
    pytest.mark.filterwarnings("ignore:Warning. Profiler clears events"),
    pytest.mark.filterwarnings("ignore:The CUDA Graph is empty"),  # torch 2.11, which hides that
]


@pytest.fixture(autouse=True)
def read_later(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where there is no device, on the CPU in its place."""
    if not HAS_CUDA:
        monkeypatch.setattr(readback, "DEFERRED", frozenset({"cuda", "cpu"}))
    yield
    if HAS_CUDA:
        torch.cuda.set_sync_debug_mode("default")


def batches(count: int, size: int = 8, bad: int | None = None, device: str = "cpu") -> list[Any]:
    inputs, targets = samples(count * size)
    loader = [(x.to(device), y.to(device)) for x, y in zip(inputs.split(size), targets.split(size), strict=True)]
    if bad is not None:
        loader[bad][0][3] = math.nan
    return loader


def make(model: nn.Module, *, fused: bool = True, lr: float = 0.1, **options: Any) -> Trainer:
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9, fused=fused)
    return Trainer(model, optimizer, options.pop("loss", nn.CrossEntropyLoss()), **{"progress": False} | options)


def model_on(device: str = DEVICE, **options: Any) -> nn.Module:
    return small_model(**options).to(device)


class Results(Callback):
    def __init__(self) -> None:
        self.results: list[StepResult] = []

    def on_step(self, trainer: Any, result: StepResult) -> None:
        self.results.append(result)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("fused", [False, True])
def test_it_trains_as_the_cpu_does(precision, accumulate, fused):
    """The same data for 4 epochs: losses near those of float32 on the CPU."""
    log, options = Results(), {"accumulate": accumulate, "clip_grad_norm": 1.0}
    trainer = make(model_on(norm=True), fused=fused, precision=precision, callbacks=[log, EMA(0.5)], **options)
    if trainer.precision.scaler is not None:
        trainer.precision.scaler._init_scale = 1024.0  # no step is skipped
    history = trainer.fit(batches(7), 4, batches(2))
    expected = make(small_model(norm=True), fused=fused, callbacks=[EMA(0.5)], **options).fit(batches(7), 4, batches(2))
    tolerance = {"fp32": 1e-3, "bf16": 5e-2, "fp16": 2e-2}[precision]
    for ours, theirs in zip(history, expected, strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=tolerance)
        assert ours["val_loss"] == pytest.approx(theirs["val_loss"], rel=2 * tolerance)
    assert trainer.skipped == 0
    assert all(result.stepped and math.isfinite(result.gradient_norm) for result in log.results)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("on_nonfinite", ["raise", "raise_at_once"])
def test_a_step_that_is_not_finite_raises(fused, on_nonfinite):
    trainer = make(model_on(norm=True), fused=fused, accumulate=2, on_nonfinite=on_nonfinite)
    with pytest.raises(NonFiniteError, match=r"loss is nan for samples 40 to 47 of this epoch, at step 2"):
        trainer.fit(batches(10, bad=5), 1)
    assert trainer.step == 2
    twin = make(model_on(norm=True), fused=fused, accumulate=2)
    twin.fit(batches(10)[:4], 1)
    assert parameters_of(trainer.model).isfinite().all()
    if fused or on_nonfinite == "raise_at_once":
        torch.testing.assert_close(parameters_of(trainer.model), parameters_of(twin.model))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_is_not_finite_is_skipped(precision, fused):
    """Weights, momentum and BatchNorm's statistics are those of a run without that step."""
    runs = []
    for bad in (True, False):
        trainer = make(model_on(norm=True), fused=fused, accumulate=2, precision=precision, on_nonfinite="skip")
        if trainer.precision.scaler is not None:
            scaler = trainer.precision.scaler
            scaler._init_scale, scaler._growth_interval, scaler._backoff_factor = 1024.0, 10**6, 0.9999
        loader = batches(8, bad=2 if bad else None)
        trainer.fit(loader if bad else loader[:2] + loader[4:], 1)
        runs.append(trainer)
    assert [run.skipped for run in runs] == [1, 0]
    tolerance = {"rtol": 0.02, "atol": 2e-3} if precision == "fp16" else {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(runs[0].model.state_dict(), runs[1].model.state_dict(), **tolerance)


def test_a_gradscaler_finds_its_scale():
    """Steps whose gradients overflow are left out, and are no error."""
    before = parameters_of(model_on()).clone()
    trainer = make(model_on(), precision="fp16", callbacks=[log := Results()])
    trainer.precision.scaler._init_scale = 2.0**40
    trainer.fit(batches(40), 1)
    assert 5 < trainer.skipped < 39
    assert [result.stepped for result in log.results].count(False) == trainer.skipped
    assert not torch.equal(before, parameters_of(trainer.model))
    assert parameters_of(trainer.model).isfinite().all()


def backends() -> list[Any]:
    modes = [pytest.param({"backend": name}, id=name) for name in ("eager", "aot_eager")]
    modes.append(pytest.param({"backend": "inductor"}, id="inductor", marks=needs_compiler))
    modes.append(pytest.param({"mode": "reduce-overhead"}, id="reduce-overhead", marks=needs_compiler))
    return modes


@pytest.mark.parametrize("options", backends())
@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_compiled_model(options, accumulate):
    """Losses, norms and weights of many micro-batches, with a metric that keeps the outputs."""
    torch._dynamo.reset()
    model = model_on()
    plain = copy.deepcopy(model)
    runs = []
    for each in (torch.compile(model, **options), plain):
        log = Results()
        trainer = make(each, lr=0.05, accumulate=accumulate, metrics={"seen": Keeps()}, callbacks=[log])
        history = trainer.fit(batches(9, device=DEVICE), 3, batches(3, device=DEVICE))
        runs.append((history, [(r.loss, r.gradient_norm) for r in log.results], parameters_of(each).clone()))
    for (history, steps, weights), (plain_history, plain_steps, plain_weights) in [runs]:
        for ours, theirs in zip(numbers(history), numbers(plain_history), strict=True):
            assert ours == pytest.approx(theirs, rel=1e-3)
        for one, other in zip(steps, plain_steps, strict=True):
            assert one == pytest.approx(other, rel=1e-3)
        torch.testing.assert_close(weights, plain_weights, rtol=1e-3, atol=1e-4)


class Keeps:
    """A metric that keeps all outputs until the end."""

    def __init__(self) -> None:
        self.outputs: list[torch.Tensor] = []

    def update(self, outputs, targets):
        self.outputs.append(outputs)

    def compute(self):
        return torch.cat(self.outputs).double().abs().mean() if self.outputs else math.nan

    def reset(self):
        self.outputs = []


def test_a_loss_whose_memory_the_next_forward_overwrites():
    """As a CUDA graph does it."""

    class Overwrites(torch.autograd.Function):
        memory: torch.Tensor | None = None

        @staticmethod
        def forward(ctx, loss):
            if Overwrites.memory is None:
                Overwrites.memory = torch.empty_like(loss)
            return Overwrites.memory.copy_(loss).view(loss.shape)

        @staticmethod
        def backward(ctx, gradient):
            return gradient

    def run(wrap):
        model, log = model_on(), Results()
        loss = lambda outputs, targets: wrap(nn.functional.cross_entropy(outputs, targets))  # noqa: E731
        make(model, loss=loss, accumulate=3, callbacks=[log]).fit(batches(7, device=DEVICE), 2)
        return [result.loss for result in log.results], parameters_of(model)

    (losses, weights), (expected, expected_weights) = run(Overwrites.apply), run(lambda loss: loss)
    assert losses == expected
    assert torch.equal(weights, expected_weights)


@pytest.mark.parametrize("made_by", ["compile", "make_graphed_callables"])
def test_gradients_whose_memory_the_next_backward_overwrites(monkeypatch, made_by):
    """As a CUDA graph does it: autograd takes a first gradient as it is, without a copy."""
    if made_by == "compile":
        monkeypatch.setattr(graphs, "in_use", lambda: True)
    monkeypatch.setattr(graphs, "_GRAPHED", weakref.WeakSet())
    memory = np.zeros((3, 6), np.float32)

    class Linear(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight):
            ctx.save_for_backward(x)
            return x @ weight.T

        @staticmethod
        def backward(ctx, gradient):
            memory[:] = gradient.T @ ctx.saved_tensors[0]
            return None, torch.from_numpy(memory)

    def run(forward: Any) -> torch.Tensor:
        weight = nn.Parameter(torch.ones(3, 6))
        model = nn.Sequential(nn.ParameterList([weight]))
        if made_by != "compile":

            def new_forward() -> None: ...

            new_forward.__qualname__ = f"{torch.cuda.make_graphed_callables.__name__}.<locals>.new_fwd"
            model[0].forward = new_forward
        accumulator = Accumulator(model, torch.optim.SGD([weight], 0.1), accumulate=3)
        for group in accumulator.groups(batches(9)):
            for inputs, targets in group:
                group.backward(nn.functional.cross_entropy(forward(inputs, weight), targets))
            group.step()
        return weight.detach().clone()

    torch.testing.assert_close(run(Linear.apply), run(nn.functional.linear))


CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "SGD": {"fused": False},
    "SGD, guarded": {"fused": False, "polls": 0},
    "SGD, accumulate": {"fused": False, "accumulate": 3, "micro_batch": 4, "clip_grad_norm": 0.1},
    "fused": {"clip_grad_norm": 0.1},
    "fused, skip": {"on_nonfinite": "skip", "accumulate": 2},
    "fused, bf16, EMA": {"precision": "bf16", "callbacks": [EMA()]},
    "fused, fp16": {"precision": "fp16", "clip_grad_norm": 0.1},
    "fused, fp16, skip": {"precision": "fp16", "on_nonfinite": "skip", "accumulate": 2},
    "weights": {"loss": "class weights", "fused": False, "accumulate": 2},
    "auto": {"micro_batch": "auto", "accumulate": 2, "fused": False},
}


class Errors(Callback):
    """From the third step on, whatever waits for the device is an error."""

    def on_step(self, trainer: Any, result: StepResult) -> None:
        if HAS_CUDA and trainer.step == 3:
            torch.cuda.set_sync_debug_mode("error")


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize("on_device", [False, True])
def test_no_step_synchronises(name, on_device, monkeypatch):
    """With batches in pinned memory, and with batches on the device."""
    options = copy.deepcopy(CONFIGURATIONS[name])
    monkeypatch.setattr(optimizer_step, "POLLS", options.pop("polls", optimizer_step.POLLS))
    if options.get("loss"):
        options["loss"] = nn.CrossEntropyLoss(weight=torch.tensor([0.5, 1.0, 2.0], device=DEVICE))
    options["callbacks"] = [*options.get("callbacks", []), Errors()]
    loader = batches(12, device=DEVICE) if on_device else batches(12)
    if HAS_CUDA and not on_device:
        loader = [(x.pin_memory(), y.pin_memory()) for x, y in loader]
    trainer = make(model_on(norm=True, dropout=0.2), **options)
    if trainer.precision.scaler is not None:
        trainer.precision.scaler._init_scale = 1024.0
    trainer.fit(Loud(loader), 1)
    assert trainer.step == 12 // trainer.accumulator.accumulate


class Loud:
    """A loader that turns the errors off when its data end: then the epoch's numbers are read."""

    def __init__(self, batches: list[Any]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        yield from self.batches
        if HAS_CUDA:
            torch.cuda.set_sync_debug_mode("default")


def test_a_step_is_read_while_the_next_one_runs(monkeypatch):
    """The result of a step is not there when its call returns, where the device has work, and is there later."""
    model = model_on()
    with monkeypatch.context() as patched:  # the first launch of a kernel may wait for the device
        patched.setattr(optimizer_step, "POLLS", 0)
        make(model, fused=False).fit(batches(2), 1)
    accumulator = Accumulator(model, torch.optim.SGD(model.parameters(), 0.1), device=torch.device(DEVICE))
    before = None
    for group in accumulator.groups(batches(4)):
        for inputs, targets in group:
            if HAS_CUDA:
                torch.cuda._sleep(150_000_000)  # some 90 ms of work
            group.backward(nn.functional.cross_entropy(model(inputs), targets))
        result = group.step()
        assert not result.ready
        assert before is None or before.ready or not HAS_CUDA  # settled in this step
        before = result
    assert before is not None
    assert math.isfinite(before.loss)
    assert before.ready


@needs_cuda
def test_memory_runs_out():
    """A model that needs more than the device has: the run is that which begins at the size found."""
    width, free = 4096, torch.cuda.mem_get_info()[0]
    limit = 2 * 2**30  # of this process, so that the test is quick
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit / torch.cuda.mem_get_info()[1]))
    assert free > limit

    class Large(nn.Module):
        """Keeps 16 activations of 4 MiB a sample for backward."""

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer, self.norm = nn.Linear(6, 3), nn.BatchNorm1d(6)
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.norm(x)
            large = x[:, :1, None] * torch.ones(1, 256, width, device=x.device)
            for _ in range(16):
                large = (large * self.scale).sin()
            return self.layer(x) + large.mean((1, 2))[:, None]

    def run(micro_batch: Any) -> Trainer:
        torch.manual_seed(11)
        trainer = make(Large().cuda(), lr=0.01, micro_batch=micro_batch, accumulate=2)
        trainer.fit(batches(4, size=64), 2)
        return trainer

    try:
        found = run("auto")
        size = found.accumulator.micro_batch
        assert size is not None
        assert size < 64
        again = run(size)
        for name, value in again.model.state_dict().items():
            assert torch.equal(value, found.model.state_dict()[name]), name
        assert numbers(found.history) == numbers(again.history)
        with pytest.raises(torch.OutOfMemoryError, match=r'micro_batch="auto"'):
            run(64)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


@needs_cuda
@pytest.mark.parametrize("polls", [0, optimizer_step.POLLS])
def test_the_profile_has_no_synchronisation(polls, monkeypatch):
    """Between two steps, the CUDA runtime is asked for events alone."""
    monkeypatch.setattr(optimizer_step, "POLLS", polls)
    trainer = make(model_on(norm=True), fused=False, accumulate=2)
    loader = [(x.pin_memory(), y.pin_memory()) for x, y in batches(20)]
    trainer.fit(loader, 1)
    with torch.profiler.profile() as profile:
        for group in trainer.accumulator.groups(loader):
            trainer._forward_backward(group, trainer.train_metrics.update)
            trainer._steps.read()
            trainer._count(group.step())
    names = {event.key for event in profile.key_averages()}
    assert not {name for name in names if name in ("aten::item", "aten::_local_scalar_dense", "cudaStreamSynchronize")}
