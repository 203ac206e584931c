"""Every sample of a step has the same weight: the accumulated gradient is that of the full batch."""

from __future__ import annotations

import functools
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from largeds_native.errors import ArgumentError, NonFiniteError
from largeds_native.trainer import Accumulator, Callback, Trainer
from largeds_native.trainer.weights import weight_of
from tests.trainer.helpers import Capture, gradient_of_full_batch, parameters_of, samples, small_model

F64 = torch.float64


def cut(n_per_batch: list[int], dtype=F64) -> list[tuple[torch.Tensor, torch.Tensor]]:
    inputs, targets = samples(sum(n_per_batch), dtype)
    return list(zip(inputs.split(n_per_batch), targets.split(n_per_batch), strict=True))


def join(group):
    return torch.cat([x for x, _ in group]), torch.cat([y for _, y in group])


def train_epoch(model, optimizer, loss, loader, **options):
    accumulator = Accumulator(model, optimizer, reduction=loss.reduction, **options)
    results = []
    for group in accumulator.groups(loader):
        for inputs, targets in group:
            group.backward(loss(model(inputs), targets))
        results.append(group.step())
    return results


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=9),
    accumulate=st.integers(1, 4),
    micro_batch=st.integers(1, 9) | st.none(),
    reduction=st.sampled_from(["mean", "sum"]),
    hold=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_gradient_is_the_full_batch_s(sizes, accumulate, micro_batch, reduction, hold):
    loader = cut(sizes)
    if micro_batch is not None:
        micro_batch = min(micro_batch, sizes[0])
    model, loss = small_model().double(), nn.CrossEntropyLoss(reduction=reduction)
    optimizer = Capture(model.parameters(), lr=0.05)
    twin = small_model().double()
    results = train_epoch(model, optimizer, loss, loader, accumulate=accumulate, micro_batch=micro_batch, hold=hold)
    groups = [loader[i : i + accumulate] for i in range(0, len(loader), accumulate)]
    assert [r.samples for r in results] == [sum(len(y) for _, y in group) for group in groups]
    for group, result, seen in zip(groups, results, optimizer.seen, strict=True):
        expected = gradient_of_full_batch(twin, loss, *join(group))
        for ours, theirs in zip(seen, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
        mean = nn.CrossEntropyLoss()(twin(join(group)[0]), join(group)[1]).item()
        assert result.loss == pytest.approx(mean, rel=1e-12)
        with torch.no_grad():
            for p, g in zip(twin.parameters(), expected, strict=True):
                p.sub_(g, alpha=0.05)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_parameters_after_ten_steps(reduction):
    loader = cut([5, 5, 5, 3] * 8)
    loss = nn.CrossEntropyLoss(reduction=reduction)
    model, twin = small_model().double(), small_model().double()
    train_epoch(model, torch.optim.Adam(model.parameters(), 0.01), loss, loader, accumulate=3, micro_batch=2)
    optimizer = torch.optim.Adam(twin.parameters(), 0.01)
    for i in range(0, len(loader), 3):
        inputs, targets = join(loader[i : i + 3])
        optimizer.zero_grad()
        loss(twin(inputs), targets).backward()
        optimizer.step()
    torch.testing.assert_close(parameters_of(model), parameters_of(twin), rtol=0, atol=1e-12)


@given(
    sizes=st.lists(st.integers(2, 6), min_size=1, max_size=5),
    ignored=st.floats(0, 0.9),
    class_weights=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_class_weights_and_ignored_targets_weigh_as_in_the_full_batch(sizes, ignored, class_weights, seed):
    loader = cut(sizes)
    generator = torch.Generator().manual_seed(seed)
    for _, targets in loader:
        targets[torch.rand(len(targets), generator=generator) < ignored] = -100
    loader[0][1][0] = 1  # the first sample counts, so that no step is a mean over nothing
    weights = torch.tensor([0.2, 1.0, 3.0], dtype=F64) if class_weights else None
    model, loss = small_model().double(), nn.CrossEntropyLoss(weight=weights)
    expected = gradient_of_full_batch(model, loss, *join(loader))
    optimizer = Capture(model.parameters())
    trainer = Trainer(model, optimizer, loss, accumulate=len(sizes), micro_batch=1, progress=False)
    trainer.fit(loader, 1)
    for ours, theirs in zip(optimizer.seen[0], expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_custom_weight(reduction):
    """Token losses: each micro-batch is a mean (or sum) over its mask, the step a mean over all tokens."""
    loader = cut([4, 4, 2])
    masks = [(targets != 0).double() for _, targets in loader]
    masks[0][0] = 1.0
    batches = [(x, (y, m)) for (x, y), m in zip(loader, masks, strict=True)]

    def loss(outputs, target, reduction=reduction):
        values = nn.functional.cross_entropy(outputs, target[0], reduction="none") * target[1]
        return values.sum() / target[1].sum() if reduction == "mean" else values.sum()

    loss.reduction = reduction
    model = small_model().double()
    inputs, targets = join(loader)
    expected = torch.autograd.grad(
        loss(model(inputs), (targets, torch.cat(masks)), reduction="mean"), list(model.parameters())
    )
    optimizer = Capture(model.parameters())
    Trainer(model, optimizer, loss, accumulate=3, micro_batch=2, weight=lambda x, t: t[1].sum(), progress=False).fit(
        batches, 1
    )
    for ours, theirs in zip(optimizer.seen[0], expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_micro_batches_are_views():
    images = torch.randn(10, 6)
    model = small_model()
    accumulator = Accumulator(model, torch.optim.SGD(model.parameters(), 0.1), micro_batch=4)
    sizes = []
    for group in accumulator.groups([(images, torch.zeros(10, dtype=torch.long))]):
        for part, targets in group:
            assert part.untyped_storage().data_ptr() == images.untyped_storage().data_ptr()
            sizes.append(len(part))
            group.backward(nn.functional.cross_entropy(model(part), targets))
        group.step()
    assert sizes == [4, 4, 2]


def test_nothing_is_fetched_beyond_a_group():
    fetched = []

    def loader():
        for i, batch in enumerate(cut([2] * 5, torch.float32)):
            fetched.append(i)
            yield batch

    model = small_model()
    accumulator = Accumulator(model, torch.optim.SGD(model.parameters(), 0.1), accumulate=2)
    at_step = []
    for group in accumulator.groups(loader()):
        for inputs, targets in group:
            group.backward(nn.functional.cross_entropy(model(inputs), targets))
        group.step()
        at_step.append(len(fetched))
    assert at_step == [2, 4, 5]


@pytest.mark.parametrize("full", [True, False])
def test_clipping_is_of_the_whole_step_s_gradient(full):
    sizes = [4, 4] if full else [4, 3]
    loader = cut(sizes)
    model, loss = small_model().double(), nn.CrossEntropyLoss()
    gradient = torch.cat([g.flatten() for g in gradient_of_full_batch(model, loss, *join(loader))])
    optimizer = Capture(model.parameters())
    (result,) = train_epoch(model, optimizer, loss, loader, accumulate=2, micro_batch=2, clip_grad_norm=0.01)
    assert result.gradient_norm == pytest.approx(gradient.norm().item(), rel=1e-10)
    clipped = torch.cat([g.flatten() for g in optimizer.seen[0]])
    torch.testing.assert_close(clipped, gradient * (0.01 / gradient.norm()), rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    "options",
    [{"accumulate": 0}, {"accumulate": 1.5}, {"micro_batch": 0}, {"reduction": "none"}, {"clip_grad_norm": 0.0}],
)
def test_bad_arguments(options):
    model = small_model()
    with pytest.raises(ArgumentError, match="expected"):
        Accumulator(model, torch.optim.SGD(model.parameters(), 0.1), **options)


def test_a_micro_batch_larger_than_the_batch():
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(ArgumentError, match="micro_batch=8 is larger than the loader's batch of 4"):
        train_epoch(model, optimizer, nn.CrossEntropyLoss(), cut([4], torch.float32), micro_batch=8)


def train(accumulator, loader, loss):
    for group in accumulator.groups(loader):
        for inputs, targets in group:
            group.backward(loss(accumulator.model(inputs), targets))
        group.step()


def test_a_loss_that_is_a_vector():
    model = small_model()
    accumulator = Accumulator(model, torch.optim.SGD(model.parameters(), 0.1))
    with pytest.raises(ArgumentError, match=r"tensor of one element, found shape \(4,\)"):
        train(accumulator, cut([4], torch.float32), nn.CrossEntropyLoss(reduction="none"))


def test_a_micro_batch_without_backward():
    model = small_model()
    accumulator = Accumulator(model, torch.optim.SGD(model.parameters(), 0.1), micro_batch=2)
    (group,) = [next(accumulator.groups(cut([4], torch.float32)))]
    with pytest.raises(ArgumentError, match=r"needs a group\.backward"):
        list(group)


def test_a_nonfinite_loss_names_step_and_samples():
    loader = cut([4, 4, 4, 4], torch.float32)
    loader[3][0][2:] = float("nan")
    model, twin = small_model(), small_model()
    accumulator = Accumulator(model, torch.optim.SGD(model.parameters(), 0.1), accumulate=2, micro_batch=2)
    with pytest.raises(NonFiniteError, match="loss is nan for samples 14 to 15 of this epoch, at step 1"):
        train(accumulator, loader, nn.CrossEntropyLoss())
    train_epoch(
        twin, torch.optim.SGD(twin.parameters(), 0.1), nn.CrossEntropyLoss(), loader[:2], accumulate=2, micro_batch=2
    )
    assert torch.equal(parameters_of(model), parameters_of(twin))
    assert all(p.grad is None for p in model.parameters())


def test_a_nonfinite_step_can_be_skipped():
    loader = cut([4, 4, 4], torch.float32)
    loader[1][0][:] = float("inf")
    model, twin = small_model(), small_model()
    results = train_epoch(
        model, torch.optim.SGD(model.parameters(), 0.1), nn.CrossEntropyLoss(), loader, on_nonfinite="skip"
    )
    assert [r.stepped for r in results] == [True, False, True]
    train_epoch(twin, torch.optim.SGD(twin.parameters(), 0.1), nn.CrossEntropyLoss(), [loader[0], loader[2]])
    assert torch.equal(parameters_of(model), parameters_of(twin))


def targets_to_ignore(loader, ignored=0.6):
    """Most targets are -100; the first counts."""
    generator = torch.Generator().manual_seed(3)
    for _, targets in loader:
        targets[torch.rand(len(targets), generator=generator) < ignored] = -100
    loader[0][1][0] = 1
    return loader


CLASS_WEIGHTS = torch.tensor([0.2, 1.0, 3.0], dtype=F64)


@pytest.mark.parametrize(
    "loss",
    [
        F.cross_entropy,
        partial(F.cross_entropy, weight=CLASS_WEIGHTS),
        partial(F.cross_entropy, weight=CLASS_WEIGHTS, label_smoothing=0.1),
        partial(F.cross_entropy, reduction="sum"),
        partial(partial(F.cross_entropy, weight=CLASS_WEIGHTS), ignore_index=-100),
        partial(nn.CrossEntropyLoss(weight=CLASS_WEIGHTS)),
        F.nll_loss,
        partial(F.nll_loss, weight=CLASS_WEIGHTS),
    ],
)
def test_functions_of_torch_weigh_as_in_the_full_batch(loss):
    loader = targets_to_ignore(cut([5, 4, 6, 3]))
    assert_full_gradient(loss, loader)


def binary(loader):
    return [(x, nn.functional.one_hot(y, 3).double()) for x, y in loader]


@pytest.mark.parametrize(
    "loss",
    [
        F.mse_loss,
        F.l1_loss,
        F.binary_cross_entropy_with_logits,
        partial(F.binary_cross_entropy_with_logits, pos_weight=CLASS_WEIGHTS),
        partial(F.cross_entropy, weight=CLASS_WEIGHTS),  # of probabilities: a mean over samples
        nn.MSELoss(),
        partial(F.kl_div, reduction="batchmean"),
    ],
)
def test_losses_of_elements_and_probabilities(loss):
    assert_full_gradient(loss, binary(cut([5, 4, 6, 3])))


def assert_full_gradient(loss, loader):
    model = small_model().double()
    expected = gradient_of_full_batch(model, loss, *join(loader))
    optimizer = Capture(model.parameters())
    Trainer(model, optimizer, loss, accumulate=len(loader), micro_batch=1, progress=False).fit(loader, 1)
    for ours, theirs in zip(optimizer.seen[0], expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_batches_of_other_sizes_weigh_by_their_elements():
    """Images of two sizes: a mean over pixels is that of all pixels of the step."""
    torch.manual_seed(0)
    model = nn.Conv2d(1, 1, 1).double()
    loader = [(torch.randn(2, 1, s, s, dtype=F64), torch.randn(2, 1, s, s, dtype=F64)) for s in (2, 5, 3)]
    squares = sum(F.mse_loss(model(x), y, reduction="sum") for x, y in loader) / sum(y.numel() for _, y in loader)
    expected = torch.autograd.grad(squares, list(model.parameters()))
    for loss in (nn.MSELoss(), F.mse_loss):
        optimizer = Capture(model.parameters(), lr=0.0)
        Trainer(model, optimizer, loss, accumulate=3, progress=False).fit(loader, 1)
        for ours, theirs in zip(optimizer.seen[0], expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


class Wrapped(nn.Module):
    def __init__(self, ignore_index=255):
        super().__init__()
        self.inner = nn.CrossEntropyLoss(ignore_index=ignore_index)

    def forward(self, outputs, targets):
        return self.inner(outputs, targets)


def own_loss(outputs, targets, weight=None):
    return F.cross_entropy(outputs, targets, weight=weight)


def trainer_of(loss, **options):
    model = small_model()
    return Trainer(model, torch.optim.SGD(model.parameters(), 0.1), loss, progress=False, **options)


@pytest.mark.parametrize("loss", [partial(own_loss, weight=torch.ones(3)), Wrapped()], ids=["partial", "module"])
def test_a_weight_that_nobody_can_see_is_said_once(loss):
    with pytest.warns(UserWarning, match=r"the loss h.*Give Trainer or Accumulator weight=") as said:
        trainer_of(loss).fit(cut([4, 4], torch.float32), 2)
    assert len(said) == 1
    trainer_of(loss, weight=lambda inputs, targets: float(len(targets)))  # silent: pytest makes warnings errors


def test_ignored_targets_of_a_loss_of_ones_own_are_said_once():
    loader = targets_to_ignore(cut([4, 4], torch.float32), 0.3)
    with pytest.warns(UserWarning, match="gets targets of -100") as said:
        trainer_of(lambda outputs, targets: F.cross_entropy(outputs, targets)).fit(loader, 2)
    assert len(said) == 1
    for loss in (own_loss, Wrapped(-100), lambda outputs, targets: F.cross_entropy(outputs, targets)):
        trainer_of(loss).fit(cut([4, 4], torch.float32), 1)


COMPILES_FUNCTIONS = pytest.mark.skipif(
    torch.__version__ < "2.6",
    reason="torch.compile of a function of torch.nn.functional fails by an assertion in torch 2.4's own dynamo",
)


def compiled(loss):
    return torch.compile(loss, backend="eager")


@pytest.mark.parametrize(
    "loss",
    [
        lambda: compiled(nn.CrossEntropyLoss(weight=CLASS_WEIGHTS)),
        lambda: compiled(partial(F.cross_entropy, weight=CLASS_WEIGHTS)),
        pytest.param(lambda: partial(compiled(F.cross_entropy), weight=CLASS_WEIGHTS), marks=COMPILES_FUNCTIONS),
        lambda: partial(compiled(partial(F.cross_entropy, weight=torch.ones(3))), weight=CLASS_WEIGHTS),
        lambda: nn.CrossEntropyLoss(weight=CLASS_WEIGHTS).forward,
        lambda: nn.CrossEntropyLoss(weight=CLASS_WEIGHTS).__call__,
        lambda: partial(nn.CrossEntropyLoss(weight=CLASS_WEIGHTS).forward),
        lambda: compiled(nn.CrossEntropyLoss(weight=CLASS_WEIGHTS).forward),
    ],
)
def test_a_wrapped_loss_of_torch_is_known(loss):
    assert weight_of(loss())(None, torch.tensor([0, 2, -100])) == pytest.approx(3.2)


class OwnMean(nn.CrossEntropyLoss):
    """It divides by the number of samples."""

    def forward(self, outputs, targets):
        return F.cross_entropy(outputs, targets, weight=self.weight, reduction="none").mean()


class ModuleMethod(Wrapped):
    def loss(self, outputs, targets):
        return self.inner(outputs, targets)


@functools.wraps(F.cross_entropy)
def decorated(outputs, targets):
    return F.cross_entropy(outputs, targets)


@pytest.mark.parametrize("loss", [OwnMean(weight=CLASS_WEIGHTS), OwnMean(ignore_index=2), ModuleMethod().loss])
def test_a_loss_that_only_looks_like_torch_s_is_unknown(loss):
    with pytest.warns(UserWarning, match=r"the loss h"):
        weight = weight_of(loss)
    assert weight(None, torch.tensor([0, 2, 1])) == 3


@pytest.mark.parametrize("loss", [OwnMean(), decorated])
def test_ignored_targets_of_what_only_looks_like_torch_s(loss):
    weight = weight_of(loss)
    with pytest.warns(UserWarning, match="gets targets of -100"):
        weight(None, torch.tensor([0, -100]))


@pytest.mark.parametrize("by_hand", [True, False])
@pytest.mark.parametrize(
    ("options", "message"), [({"weight": torch.ones(3)}, "class weights"), ({"ignore_index": 1}, "ignore_index=1")]
)
def test_weights_in_a_loss_s_graph_are_said_once(options, message, by_hand):
    """No part of the loss can be looked into, and its result can."""
    loader = cut([4, 4, 4], torch.float32)

    def loss(outputs, targets):
        return F.cross_entropy(outputs, targets, **options)

    with pytest.warns(UserWarning, match=f"the loss has {message}") as said:
        train_with(loss, loader, by_hand)
    assert len(said) == 1
    train_with(lambda outputs, targets: F.cross_entropy(outputs, targets), loader, by_hand)  # silent


def train_with(loss, loader, by_hand):
    if not by_hand:
        trainer_of(loss).fit(loader, 1)
        return
    model = small_model()
    accumulator = Accumulator(model, torch.optim.SGD(model.parameters(), 0.1), accumulate=2)
    for group in accumulator.groups(loader):
        for inputs, targets in group:
            group.backward(loss(model(inputs), targets))
        group.step()


def test_ignored_targets_in_a_loop_by_hand_are_said_once():
    loader = targets_to_ignore(cut([4, 4], torch.float32), 0.3)
    with pytest.warns(UserWarning, match="gets targets of -100") as said:
        train_with(F.cross_entropy, loader, by_hand=True)
    assert len(said) == 1


@pytest.mark.parametrize("hold", [True, False])
@pytest.mark.parametrize("at", [0, 1, 3, 4])
def test_a_batch_without_samples(at, hold):
    """It is a batch of its group, and weighs nothing; evaluation leaves it out."""
    loader = cut([4, 4, 3, 2])
    loader.insert(at, (loader[0][0][:0], loader[0][1][:0]))
    twin, model = small_model().double(), small_model().double()
    optimizer = torch.optim.SGD(twin.parameters(), 0.1)
    for group in (loader[:2], loader[2:4], loader[4:]):
        inputs, targets = join(group)
        if len(targets):
            optimizer.zero_grad()
            F.cross_entropy(twin(inputs), targets).backward()
            optimizer.step()
    options = {"accumulate": 2, "micro_batch": "auto" if hold else 3, "progress": False}
    trainer = Trainer(model, torch.optim.SGD(model.parameters(), 0.1), nn.CrossEntropyLoss(), **options)
    (logs,) = trainer.fit(loader, 1, loader)
    assert trainer.step == 3
    torch.testing.assert_close(parameters_of(model), parameters_of(twin), rtol=0, atol=1e-12)
    inputs, targets = join(loader)
    assert abs(logs["val_loss"] - F.cross_entropy(twin(inputs), targets).item()) < 1e-12


@pytest.mark.parametrize("full", [True, False])
def test_parameters_that_come_later_are_scaled_and_clipped(full):
    """Gradual unfreezing: what the backward before left in their gradients is gone, too."""
    sizes = [4, 4] if full else [4, 3]
    loader = [*cut([4, 4]), *cut(sizes)]
    model, loss = small_model().double(), nn.CrossEntropyLoss()
    twin = small_model().double()
    optimizer = Capture(model[3].parameters(), lr=0.0)
    accumulator = Accumulator(model, optimizer, accumulate=2, clip_grad_norm=0.01)
    results = []
    for group in accumulator.groups(loader):
        for inputs, targets in group:
            group.backward(loss(model(inputs), targets))
        results.append(group.step())
        if len(results) == 1:
            optimizer.add_param_group({"params": list(model[0].parameters())})
    gradients = gradient_of_full_batch(twin, loss, *join(loader[2:]))
    expected = torch.cat([g.flatten() for g in [*gradients[2:], *gradients[:2]]])
    assert results[1].gradient_norm == pytest.approx(expected.norm().item(), rel=1e-10)
    seen = torch.cat([g.flatten() for g in optimizer.seen[1]])
    torch.testing.assert_close(seen, expected * (0.01 / expected.norm()), rtol=1e-3, atol=0)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_group_that_weighs_nothing_moves_nothing(precision):
    inputs, targets = samples(12)
    targets[4:8] = -100
    loader = list(zip(inputs.split(4), targets.split(4), strict=True))
    seen = []

    class Follow(Callback):
        def on_step(self, trainer, result):
            seen.append((math.isnan(result.loss), parameters_of(trainer.model).clone()))

    model = small_model()
    optimizer = torch.optim.AdamW(model.parameters(), 0.1)
    trainer = Trainer(
        model, optimizer, nn.CrossEntropyLoss(), precision=precision, callbacks=[Follow()], progress=False
    )
    (logs,) = trainer.fit(loader, 1)
    assert [nan for nan, _ in seen] == [False, True, False]
    assert torch.equal(seen[0][1], seen[1][1])
    assert math.isfinite(logs["train_loss"])


def test_weights_on_a_device_that_are_all_zero():
    """A weight that stays a tensor, as on a GPU: nothing is divided by 0."""
    model, before = small_model(), parameters_of(small_model())
    accumulator = Accumulator(model, torch.optim.SGD(model.parameters(), 0.1))
    accumulator.weighting.weigh = lambda inputs, targets: torch.zeros((), dtype=F64)
    (group,) = [next(accumulator.groups(cut([4], torch.float32)))]
    for inputs, targets in group:
        group.backward(F.cross_entropy(model(inputs), targets))
    group.step()
    assert torch.equal(parameters_of(model), before)


def test_an_optimizer_that_needs_a_closure_is_refused():
    model = small_model()
    for optimizer in (torch.optim.LBFGS(model.parameters()),):
        with pytest.raises(ArgumentError, match="LBFGS computes the loss again"):
            Accumulator(model, optimizer)
        with pytest.raises(ArgumentError, match="LBFGS computes the loss again"):
            Trainer(model, optimizer, nn.CrossEntropyLoss())
