"""A step whose numbers are read in the next one, as on a CUDA device, equals one whose numbers are read at once.

The fixture `later` makes the Trainer treat the CPU as such a device, on which numbers are never there before they are
read. The device "meta", which has no values at all, shows that nothing else reads any.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from largeds_native.errors import NonFiniteError
from largeds_native.trainer import (
    EMA,
    Accumulator,
    Callback,
    EarlyStopping,
    ProgressBar,
    StepResult,
    TensorBoardLogger,
    Trainer,
    gradients,
    readback,
)
from tests.trainer.helpers import Stop, StopAt, numbers, parameters_of, samples, small_model

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01),
    "SGD fused": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, dampening=0.1, fused=True),
    "SGD fused, plain": lambda p: torch.optim.SGD(p, 0.1, fused=True),
    "AdamW": lambda p: torch.optim.AdamW(p, 0.01),
    "AdamW fused": lambda p: torch.optim.AdamW(p, 0.01, fused=True),
    "Adagrad fused": lambda p: torch.optim.Adagrad(p, 0.01, fused=True),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 0.01),
}


@contextmanager
def reading(later: bool) -> Iterator[None]:
    before = readback.DEFERRED
    readback.DEFERRED = frozenset({"cpu"}) if later else before
    try:
        yield
    finally:
        readback.DEFERRED = before


@pytest.fixture
def later() -> Iterator[None]:
    with reading(later=True):
        yield


class Losses(Callback):
    """Keeps the results, and reads them at the end of the fit."""

    def __init__(self) -> None:
        self.results: list[StepResult] = []
        self.ready: list[bool] = []

    def on_step(self, trainer: Any, result: StepResult) -> None:
        self.ready.append(result.ready)
        self.results.append(result)


def loader_of(sizes: list[int], bad: list[int], value: float = math.nan, ignored: int | None = None) -> list[Any]:
    inputs, targets = samples(sum(sizes))
    loader = list(zip(inputs.split(sizes), targets.split(sizes), strict=True))
    for number in bad:
        loader[number][0][-1] = value
    if ignored is not None:
        loader[ignored][1][:] = -100
    return loader


def make(optimizer: str = "SGD", model: nn.Module | None = None, **options: Any) -> Trainer:
    model = model or small_model(norm=True, dropout=0.3)
    made = OPTIMIZERS[optimizer](model.parameters())
    if options.get("scheduler_by") == "step":
        options["scheduler"] = torch.optim.lr_scheduler.ExponentialLR(made, 0.9)
    torch.manual_seed(3)
    return Trainer(model, made, options.pop("loss", nn.CrossEntropyLoss()), **{"progress": False} | options)


def state_of(trainer: Trainer) -> dict[str, Any]:
    """The checkpoint, without the clock."""
    state = trainer.state_dict()
    # fused Adam makes its moments, zeros, in a step that it skips, and the CPU does not call it then
    moments = state["optimizer"]["state"]
    made = {n: v for n, v in moments.items() if any(torch.is_tensor(m) and m.any() for m in v.values())}
    state["optimizer"] = {**state["optimizer"], "state": made}
    state["progress"] = {**state["progress"], "history": numbers(state["progress"]["history"]), "trained": None}
    return state


def assert_same(ours: Any, theirs: Any) -> None:
    """Bit for bit, NaN as NaN."""
    if isinstance(theirs, Tensor):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
    elif isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for key in theirs:
            assert_same(ours[key], theirs[key])
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    elif isinstance(theirs, float) and math.isnan(theirs):
        assert math.isnan(ours)
    else:
        assert ours == theirs


def results_of(log: Losses) -> list[tuple[Any, ...]]:
    return [(r.loss, r.weight, r.samples, r.gradient_norm, r.stepped) for r in log.results]


@pytest.mark.filterwarnings("ignore:Detected call of")  # a first step in which no target counts
@settings(max_examples=40, deadline=None, report_multiple_bugs=False, suppress_health_check=list(HealthCheck))
@given(
    sizes=st.lists(st.sampled_from([2, 4, 6]), min_size=1, max_size=9),
    bad=st.lists(st.integers(0, 8), max_size=3, unique=True),
    ignored=st.none() | st.integers(0, 8),
    value=st.sampled_from([math.nan, math.inf]),
    accumulate=st.integers(1, 4),
    micro_batch=st.sampled_from([None, 2, "auto"]),
    optimizer=st.sampled_from(list(OPTIMIZERS)),
    clip=st.sampled_from([None, 0.05, 100.0]),
    precision=st.sampled_from(["fp32", "bf16", "fp16"]),
    by_step=st.booleans(),
    weight=st.sampled_from([None, lambda inputs, targets: (targets + 1.0).sum()]),
    read=st.booleans(),
)
def test_the_same_steps(
    sizes, bad, ignored, value, accumulate, micro_batch, optimizer, clip, precision, by_step, weight, read
):
    """Weights, buffers, optimizer, scaler, scheduler, losses, norms and history, with skipped steps; also if nobody
    reads the norm, which is then not computed."""
    if ignored is not None and (ignored >= len(sizes) or precision == "fp16"):
        ignored = None  # a GradScaler counts a step whose gradients are 0, and none that has no gradients
    # what is bad and weighs nothing has no backward on the CPU; on a device nobody knows that it weighs nothing
    bad = [n for n in bad if n < len(sizes) and n != ignored]

    def run(deferred: bool) -> tuple[dict[str, Any], list[Any]]:
        with reading(deferred):
            log = Losses()
            trainer = make(
                optimizer,
                accumulate=accumulate,
                micro_batch=micro_batch,
                clip_grad_norm=clip,
                precision=precision,
                on_nonfinite="skip",
                scheduler_by="step" if by_step else "epoch",
                weight=weight,
                callbacks=[log, EMA(0.5)] if read else [EMA(0.5)],
            )
            trainer.fit(loader_of(sizes, bad, value, ignored), 2)
            return state_of(trainer), results_of(log)

    assert_same(run(True), run(False))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_only_what_must_be_read_is_read(later, optimizer, precision):
    """A step that can be left out on the device is not waited for, and one that can only raise never is."""
    # older torch has optimizers that are fused and know no flag
    fused = getattr(make(optimizer).optimizer, "_step_supports_amp_scaling", False)
    for on_nonfinite, waits in (("raise", precision == "fp16" and not fused), ("skip", not fused)):
        log = Losses()
        trainer = make(optimizer, on_nonfinite=on_nonfinite, precision=precision, callbacks=[log])
        trainer.fit(loader_of([4] * 5, []), 1)
        first = optimizer == "SGD fused" and (on_nonfinite == "skip" or precision == "fp16")  # it makes its momentum
        assert log.ready == [waits or first, *[waits] * 4]
    log = Losses()
    make(optimizer, on_nonfinite="raise_at_once", precision=precision, callbacks=[log]).fit(loader_of([4] * 3, []), 1)
    assert all(log.ready)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("clip", [None, 0.05])
def test_the_error_comes_a_step_later_and_names_the_step(later, optimizer, accumulate, clip):
    """It is raised before a second optimizer step; the weights are finite, with a fused optimizer those before."""
    trainer, twin = (make(optimizer, accumulate=accumulate, micro_batch=2, clip_grad_norm=clip) for _ in range(2))
    loader = loader_of([4] * 8, [5])
    torch.manual_seed(3)
    with pytest.raises(NonFiniteError, match=r"loss is nan for samples 22 to 23 of this epoch, at step ") as raised:
        trainer.fit(loader, 1)
    step = 5 // accumulate
    torch.manual_seed(3)
    assert f"at step {step}, samples {step * 4 * accumulate} to" in str(raised.value)
    assert (trainer.step, trainer.accumulator.steps, trainer.steps_in_epoch) == (step, step, step)
    twin.fit(loader[: step * accumulate], 1)
    assert parameters_of(trainer.model).isfinite().all()
    if "fused" in optimizer:
        assert torch.equal(parameters_of(trainer.model), parameters_of(twin.model))
    assert all(p.grad is None for p in trainer.model.parameters())


@pytest.mark.parametrize("last", [False, True])
def test_no_checkpoint_holds_a_wrong_step(later, tmp_path, last):
    """The last step of an epoch, and one that is saved, are read before."""
    trainer = make("SGD", checkpoint_dir=tmp_path, checkpoint_every=1)
    loader = loader_of([4] * 4, [3 if last else 2])
    with pytest.raises(NonFiniteError, match=f"at step {3 if last else 2}, samples"):
        trainer.fit(loader, 1)
    newest = trainer.checkpoints.newest()
    assert newest is not None
    assert newest[1]["progress"]["step"] == (3 if last else 2)
    again = make("SGD", checkpoint_dir=tmp_path)
    again.fit(loader_of([4] * 4, []), 1)
    whole = make("SGD")
    whole.fit(loader_of([4] * 4, []), 1)
    assert torch.equal(parameters_of(again.model), parameters_of(whole.model))


def test_a_loop_by_hand_gets_the_error_when_the_loader_ends(later):
    model = small_model()
    accumulator = Accumulator(model, torch.optim.SGD(model.parameters(), 0.1))
    seen = []

    def train() -> None:
        for group in accumulator.groups(loader_of([4] * 3, [2])):
            for inputs, targets in group:
                group.backward(nn.functional.cross_entropy(model(inputs), targets))
            seen.append(group.step())

    with pytest.raises(NonFiniteError, match="at step 2, samples 8 to 11"):
        train()
    assert [math.isfinite(result.loss) for result in seen] == [True, True, False]
    assert [result.stepped for result in seen] == [True, True, False]
    assert "loss=nan" in repr(seen[2])
    assert seen[0] == seen[0] != seen[1]


@pytest.mark.parametrize("optimizer", ["SGD", "RMSprop", "AdamW fused"])
@pytest.mark.parametrize("bad", [[], [3]])
def test_no_guard_is_needed_where_the_device_has_checked_the_gradients_already(later, monkeypatch, bad, optimizer):
    guards: list[Tensor] = []
    guard = gradients.zero_if
    monkeypatch.setattr(gradients, "zero_if", lambda flag, found: (guards.append(flag), guard(flag, found)))

    def run(ready: bool) -> Tensor:
        monkeypatch.setattr(readback.Readback, "ready", property(lambda _: ready))
        trainer = make(optimizer)
        with pytest.raises(NonFiniteError) if bad else contextlib.nullcontext():
            trainer.fit(loader_of([4] * 6, bad), 1)
        return parameters_of(trainer.model)

    waiting = run(ready=False)
    assert len(guards) == (0 if optimizer == "AdamW fused" else 4 if bad else 6)
    guards.clear()
    assert_same(run(ready=True), waiting)
    assert waiting.isfinite().all()
    assert len(guards) == (0 if optimizer == "AdamW fused" else len(bad))


def test_a_result_that_nobody_reads_keeps_no_losses(later):
    results = Losses()
    trainer = make(callbacks=[results])
    trainer.fit(loader_of([4] * 5, []), 1)
    assert not any(result._unread.group.losses for result in results.results if result._unread is not None)
    assert all(math.isfinite(result.loss) for result in results.results)


@pytest.mark.parametrize("torch_can", [False, True])
def test_the_norm_of_a_sparse_gradient_is_that_of_the_dense_one(monkeypatch, torch_can):
    """Also where a row is in it twice. torch 2.11 has no such norm."""
    indices, values = torch.tensor([[0, 1, 1]]), torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    sparse, other = torch.sparse_coo_tensor(indices, values, (4, 2), check_invariants=True), torch.tensor([7.0])
    original = torch._foreach_norm

    def of_dense(tensors):
        if any(one.is_sparse for one in tensors):
            raise NotImplementedError
        return original(tensors)

    if not torch_can:
        monkeypatch.setattr(torch, "_foreach_norm", of_dense)
    expected = torch.cat([sparse.to_dense().flatten(), other]).norm()
    torch.testing.assert_close(gradients.norm([sparse, other]), expected)


@pytest.mark.parametrize("ready", [False, True])
def test_sparse_gradients_are_guarded_too(later, monkeypatch, ready):
    monkeypatch.setattr(readback.Readback, "ready", property(lambda _: ready))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(5, 3, sparse=True), nn.Flatten(), nn.Linear(6, 2))
    accumulator = Accumulator(model, torch.optim.SGD(model.parameters(), 0.1))
    numbers, targets = torch.tensor([[1, 2], [2, 4]]), torch.tensor([0, 1])
    before = parameters_of(model)

    def train() -> None:
        for step, group in enumerate(accumulator.groups([(numbers, targets)] * 3)):
            for inputs, wanted in group:
                loss = nn.functional.cross_entropy(model(inputs), wanted)
                group.backward(loss * (math.nan if step == 1 else 1))
            group.step()

    with pytest.raises(NonFiniteError):
        train()
    changed = (parameters_of(model)[:15] != before[:15]).view(5, 3).all(1)
    assert changed.tolist() == [False, True, True, False, True]
    assert parameters_of(model).isfinite().all()


@pytest.mark.parametrize("error", [Stop(), KeyboardInterrupt()])
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("on_nonfinite", ["raise", "skip"])
@pytest.mark.parametrize("optimizer", ["SGD", "AdamW fused"])
def test_an_exception_leaves_the_same_state(error, accumulate, on_nonfinite, optimizer):
    """In a callback, and Ctrl-C in the forward of the next step."""

    class Stops(StopAt):
        def on_step(self, trainer, result):
            if trainer.step == self.step and isinstance(error, Stop):
                raise error

    class Interrupted(nn.Identity):
        calls = 0

        def forward(self, x):
            self.calls += 1
            if self.calls == 7 and isinstance(error, KeyboardInterrupt):
                raise error
            return x

    def run(deferred: bool) -> dict[str, Any]:
        with reading(deferred):
            model = nn.Sequential(Interrupted(), *small_model(norm=True))
            options: dict[str, Any] = {"on_nonfinite": on_nonfinite, "accumulate": accumulate, "scheduler_by": "step"}
            trainer = make(optimizer, model, callbacks=[Stops(2)], **options)
            with pytest.raises(type(error)):
                trainer.fit(loader_of([4] * 9, [3] if on_nonfinite == "skip" else []), 1)
            return state_of(trainer)

    assert_same(run(True), run(False))


def test_an_error_that_follows_a_wrong_step_names_that_step(later):
    """Such as a callback that fails over NaN: the step is the cause."""
    trainer = make("SGD", callbacks=[StopAt(2)])
    with pytest.raises(NonFiniteError, match="at step 1,") as raised:
        trainer.fit(loader_of([4] * 4, [1]), 1)
    assert isinstance(raised.value.__cause__, Stop)
    assert trainer.step == 1


@pytest.mark.parametrize("stop", [1, 2, 3])
@pytest.mark.parametrize("on_nonfinite", ["raise", "skip"])
def test_a_resume_in_the_middle(tmp_path, stop, on_nonfinite):
    loader = loader_of([4] * 7, [2] if on_nonfinite == "skip" else [])
    options: dict[str, Any] = {"accumulate": 2, "on_nonfinite": on_nonfinite, "scheduler_by": "step"}

    def run(deferred: bool, folder: Any) -> dict[str, Any]:
        with reading(deferred):
            first = make(
                "AdamW fused", checkpoint_dir=folder, checkpoint_every=1, callbacks=[StopAt(stop + 1)], **options
            )
            with pytest.raises(Stop):
                first.fit(loader, 1)
            trainer = make("AdamW fused", checkpoint_dir=folder, **options)
            trainer.fit(loader, 2)
            return {**state_of(trainer), "callbacks": None}

    whole = make("AdamW fused", **options)
    whole.fit(loader, 2)
    resumed = run(True, tmp_path / "later")
    assert_same(resumed, run(False, tmp_path / "once"))
    assert_same(resumed, {**state_of(whole), "callbacks": None})


def test_skipped_counts_a_step_whose_numbers_are_on_the_device(later):
    counts = []

    class Count(Callback):
        def on_step(self, trainer, result):
            counts.append(trainer.skipped)

    make("AdamW fused", on_nonfinite="skip", callbacks=[Count()]).fit(loader_of([4] * 4, [1, 3]), 1)
    assert counts == [0, 1, 1, 2]


def test_tensorboard_writes_each_step_once(later, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = Losses()
    make("SGD", callbacks=[TensorBoardLogger(tmp_path, every=2), log]).fit(loader_of([4] * 7, []), 1)
    assert not any(log.ready)
    events = EventAccumulator(str(tmp_path)).Reload()
    found = [(event.step, event.value) for event in events.Scalars("step/loss")]
    assert [step for step, _ in found] == [2, 4, 6]
    assert [value for _, value in found] == pytest.approx([log.results[step - 1].loss for step, _ in found])


class Named(EMA):
    """A subclass of a callback that reads no norm may read it."""

    def on_step(self, trainer, result):
        super().on_step(trainer, result)


@pytest.mark.parametrize("make_callback", [Losses, Named, TensorBoardLogger, EMA, ProgressBar, EarlyStopping, None])
def test_the_norm_is_computed_for_whoever_may_read_it(later, monkeypatch, tmp_path, make_callback):
    """A user's callback may; of ours, only the logger of every second step."""
    norms = []
    monkeypatch.setattr(gradients, "norm", lambda found: norms.append(len(found)) or torch.ones(()))
    if make_callback is TensorBoardLogger:
        pytest.importorskip("tensorboard")
        callbacks, expected = [TensorBoardLogger(tmp_path, every=2)], 3
    else:
        callbacks = [] if make_callback is None else [make_callback()]
        expected = 6 if make_callback in (Losses, Named) else 0
    trainer = make("SGD", callbacks=callbacks)
    loader = loader_of([4] * 6, [])
    trainer.fit(loader, 1, loader if make_callback is EarlyStopping else None)
    assert len(norms) == expected


def test_a_gradient_that_is_not_finite_is_found_without_its_norm(later):
    """The losses are finite: only the check of the gradients can see it."""

    class Infinite(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * math.inf

    class Bad(nn.Linear):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return Infinite.apply(super().forward(x)) if self.calls == 3 else super().forward(x)

    model = nn.Sequential(Bad(6, 3))
    trainer = make("SGD", model, callbacks=[EMA()])
    with pytest.raises(NonFiniteError, match=r"the gradient is not finite at step 2, samples 8 to 11"):
        trainer.fit(loader_of([4] * 6, []), 1)
    assert parameters_of(model).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("known", [False, True])
def test_any_nonfinite(monkeypatch, dtype, known):
    """By the check of a GradScaler, and where torch lacks it for a device or dtype."""
    if not known:
        monkeypatch.delattr(torch, "_amp_foreach_non_finite_check_and_unscale_")
    one = torch.ones(())
    for bad in (1.0, math.nan, math.inf, -math.inf):
        tensors = [torch.randn(3, 4).to(dtype), torch.randn(2), torch.tensor([0.0, bad, 2.0]).to(dtype)]
        copies = [tensor.clone() for tensor in tensors]
        assert gradients.any_nonfinite(tensors, one).item() == (bad != 1.0)
        assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(tensors, copies, strict=True))


class NoReads(TorchDispatchMode):
    """Fails where a value goes from a tensor to Python."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in ("_local_scalar_dense", "is_nonzero", "equal", "nonzero"), f"{name} reads a value"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if "fused" in name])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("on_nonfinite", ["raise", "skip"])
def test_no_step_reads_a_value(later, optimizer, precision, on_nonfinite):
    """All of a step: forward, backward, norm, clipping, the check, the optimizer, EMA, the scheduler, the totals."""
    options: dict[str, Any] = {"precision": precision, "on_nonfinite": on_nonfinite, "scheduler_by": "step"}
    trainer = make(optimizer, accumulate=2, clip_grad_norm=0.1, callbacks=[EMA()], **options)
    if not getattr(trainer.optimizer, "_step_supports_amp_scaling", False):
        pytest.skip("this version of torch has no flag for this optimizer")
    if trainer.precision.scaler is not None:
        trainer.precision.scaler._init_scale = 1024.0  # so that the first step makes the momentum
    trainer.callbacks.call("on_fit_start", trainer)
    steps = trainer.accumulator.groups(loader_of([4] * 8, []))
    for number, group in enumerate(steps):
        with NoReads() if number else contextmanager(lambda: iter([None]))():
            trainer._forward_backward(group, trainer.train_metrics.update)
            trainer._steps.read()
            trainer._count(group.step())


class OnMeta(readback.Readback):
    """A device without values: the numbers that come back are those of a good step."""

    def __init__(self, values, buffers):
        self._numbers, self._given = None, len(values)
        assert values.device.type == "meta"

    ready = property(lambda self: self._numbers is not None)

    def read(self):
        self._numbers = [1.0] if self._given == 1 else [1.0] * (self._given - 1) + [0.0]  # weight; losses, norm, flag
        return self._numbers


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW", "RMSprop"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_fit_on_a_device_without_values(monkeypatch, optimizer, weighted, accumulate):
    """Nothing but Readback gets a number from the device: from "meta", there is none to get."""
    monkeypatch.setattr(readback, "DEFERRED", frozenset({"meta"}))
    monkeypatch.setattr(readback, "Readback", OnMeta)
    loss = nn.CrossEntropyLoss(weight=torch.ones(3, device="meta")) if weighted else nn.CrossEntropyLoss()
    log, model = Losses(), small_model(norm=True, dropout=0.3).to("meta")
    options: dict[str, Any] = {"loss": loss, "accumulate": accumulate, "micro_batch": 2, "clip_grad_norm": 1.0}
    trainer = make(optimizer, model, callbacks=[log, EMA()], **options)
    trainer.accumulator.weighting.nominal = 4.0 * accumulate  # that of the first batch, which is read once in a run
    trainer.fit([(x.to("meta"), y.to("meta") if weighted else y) for x, y in loader_of([4] * 7, [])], 2)
    assert trainer.step == 2 * math.ceil(7 / accumulate)
    assert not any(log.ready)
