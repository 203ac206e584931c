"""Losses and gradients that are infinite, NaN, or means over no samples."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from largeds_native.errors import NonFiniteError
from largeds_native.trainer import Accumulator, Trainer
from tests.trainer.helpers import Capture, gradient_of_full_batch, parameters_of, samples, small_model


def make(model, loss=None, **options):
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    return Trainer(model, optimizer, loss or nn.CrossEntropyLoss(), progress=False, **options)


def batches(bad: int | None = None, value: float = math.nan, sizes=(8, 8, 8, 8)):
    """Batches of which one holds the value."""
    inputs, targets = samples(sum(sizes))
    loader = list(zip(inputs.split(sizes), targets.split(sizes), strict=True))
    if bad is not None:
        loader[bad][0][3] = value
    return loader


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("micro_batch", [None, 3, "auto"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_skipped_step_leaves_no_trace(precision, micro_batch, value):
    """Weights, momentum and BatchNorm's statistics are those of a run without that step."""
    trainer, twin = (
        make(small_model(norm=True), on_nonfinite="skip", precision=precision, micro_batch=micro_batch, accumulate=2)
        for _ in range(2)
    )
    for each in (trainer, twin):
        if each.precision.scaler is not None:
            each.precision.scaler._growth_interval = 10**6
            each.precision.scaler._backoff_factor = 0.999  # a lower scale rounds otherwise
    loader = batches(2, value, sizes=(8,) * 6)
    (logs,) = trainer.fit(loader, 1, batches())
    twin.fit(loader[:2] + loader[4:], 1)
    ours, theirs = trainer.model.state_dict(), twin.model.state_dict()
    tolerance = {"rtol": 0, "atol": 0} if precision != "fp16" else {"rtol": 1e-2, "atol": 1e-3}
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], **tolerance)
    assert (trainer.skipped, trainer.step) == (1, 3)
    assert math.isfinite(logs["train_loss"])
    assert math.isfinite(logs["val_loss"])


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_after_a_raised_error_the_fit_can_continue(precision):
    """Nothing of the failed step is left: neither gradients nor state of a GradScaler."""
    trainer = make(small_model(), precision=precision, accumulate=2, clip_grad_norm=1.0)
    before = parameters_of(trainer.model).clone()
    with pytest.raises(NonFiniteError, match="loss is nan for samples 8 to 15 of this epoch, at step 0"):
        trainer.fit(batches(1), 1)
    assert torch.equal(before, parameters_of(trainer.model))
    trainer.fit(batches(), 1)
    assert trainer.step == 2
    assert not torch.equal(before, parameters_of(trainer.model))


def test_a_gradient_that_is_not_finite_though_the_loss_is():
    class Root(nn.Module):
        """The slope of the square root at 0 is infinite."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 3)
            nn.init.zeros_(self.layer.weight)
            nn.init.zeros_(self.layer.bias)

        def forward(self, x):
            return self.layer(x).abs().sqrt()

    with pytest.raises(NonFiniteError, match=r"gradient is not finite \(norm (nan|inf)\) at step 0, samples 0 to 7"):
        make(Root(), clip_grad_norm=1.0).fit(batches(), 1)
    trainer = make(Root(), on_nonfinite="skip", clip_grad_norm=1.0)
    trainer.fit(batches(), 1)
    assert trainer.skipped == 4
    assert not parameters_of(trainer.model).any()


def test_clipping_leaves_an_overflow_to_the_scaler():
    trainer = make(small_model(), precision="fp16", clip_grad_norm=1.0)
    trainer.precision.scaler._init_scale = 2.0**40
    before = parameters_of(trainer.model).clone()
    trainer.fit(batches()[:1], 1)
    assert trainer.skipped == 1
    assert torch.equal(before, parameters_of(trainer.model))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_step_in_which_no_target_counts(precision):
    """All targets of the second step are ignored, so it does not change the weights."""
    loader = batches()
    loader[1][1][:] = -100
    trainer, twin = make(small_model(), precision=precision), make(small_model(), precision=precision)
    (logs,) = trainer.fit(loader, 1)
    twin.fit([loader[0], *loader[2:]], 1)
    assert math.isfinite(logs["train_loss"])
    assert (trainer.step, trainer.skipped) == (4, 0)
    if precision == "fp32":
        assert torch.equal(parameters_of(trainer.model), parameters_of(twin.model))


def test_evaluation_skips_samples_of_weight_0():
    loader = batches()
    loader[1][1][:] = -100
    loader[2][1][:5] = -100
    trainer = make(small_model())
    found = trainer.evaluate(loader)["loss"]
    inputs, targets = torch.cat([x for x, _ in loader]), torch.cat([y for _, y in loader])
    with torch.no_grad():
        expected = nn.functional.cross_entropy(trainer.model(inputs), targets)
    assert found == pytest.approx(expected.item(), rel=1e-6)


def test_earlier_gradients_are_not_part_of_the_step():
    """An interrupted group, or a backward outside of the loop, leaves gradients."""
    loader = batches()
    model, loss = small_model(), nn.CrossEntropyLoss()
    expected = gradient_of_full_batch(model, loss, *loader[0])
    optimizer = Capture(model.parameters())
    accumulator = Accumulator(model, optimizer, accumulate=2)
    loss(model(loader[3][0]), loader[3][1]).backward()
    for group in accumulator.groups(loader):
        for inputs, targets in group:
            group.backward(loss(model(inputs), targets))
            break
        break  # Ctrl-C in a notebook
    for group in accumulator.groups(loader[:1]):
        for inputs, targets in group:
            group.backward(loss(model(inputs), targets))
        group.step()
    for ours, theirs in zip(optimizer.seen[0], expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_loss_in_half_precision():
    """The initial scale of 65536 is above its range: one step is skipped, then it trains."""

    def loss(outputs, targets):
        return outputs.half().square().mean()

    trainer = make(small_model(), loss, precision="fp16")
    before = parameters_of(trainer.model).clone()
    trainer.fit(batches(), 1)
    assert trainer.skipped == 1
    assert not torch.equal(before, parameters_of(trainer.model))
