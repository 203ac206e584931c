"""micro_batch="auto": running out of memory in a step changes nothing but the micro-batch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from largeds_native.errors import ArgumentError
from largeds_native.trainer import Trainer
from largeds_native.trainer.memory import is_out_of_memory
from tests.trainer.helpers import data_loader, parameters_of, samples, small_model


class Fails(nn.Module):
    """Runs out of memory at the n-th call, in forward or in backward, after the previous layers have run."""

    def __init__(self, at: int, where: str, limit: int = 0) -> None:
        super().__init__()
        self.at, self.where, self.limit, self.calls = at, where, limit, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x
        self.calls += 1
        fail = self.calls == self.at or (self.limit and len(x) > self.limit)
        if fail and self.where == "forward":
            raise torch.OutOfMemoryError("injected")
        return _FailInBackward.apply(x) if fail else x


class _FailInBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise torch.OutOfMemoryError("injected")


def make(fails: Fails | None, micro_batch, **options) -> Trainer:
    model = small_model(norm=True, dropout=0.4)
    if fails is not None:
        model.insert(3, fails)  # after BatchNorm, before dropout
    else:
        model.insert(3, nn.Identity())
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    metrics = {"seen": lambda outputs, targets: outputs.sum()}
    return Trainer(
        model, optimizer, nn.CrossEntropyLoss(), micro_batch=micro_batch, metrics=metrics, progress=False, **options
    )


def fit(trainer: Trainer, *arguments):
    torch.manual_seed(11)
    return trainer.fit(*arguments)


def clean(history):
    return [{k: v for k, v in logs.items() if k not in ("images_per_s", "data_share")} for logs in history]


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_bit_identical_to_a_run_that_started_smaller(at, where, precision):
    """Three batches of 8 in a group, the last group partial; memory runs out at each micro-batch of the first."""
    trainer = make(Fails(at, where), "auto", accumulate=3, precision=precision)
    twin = make(None, 4, accumulate=3, precision=precision)
    loader = data_loader(38, 8, shuffle=True)
    history = fit(trainer, loader, 2)
    again = fit(twin, loader, 2)
    assert trainer.accumulator.micro_batch == 4
    assert clean(history) == clean(again)
    ours, theirs = trainer.model.state_dict(), twin.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert trainer.step == twin.step
    if trainer.precision.scaler is not None:
        assert trainer.precision.scaler.state_dict() == twin.precision.scaler.state_dict()


@pytest.mark.parametrize("at", [*range(1, 7)])
def test_a_failure_in_any_micro_batch_after_the_first_halving(at):
    """From 8 to 4 at once, then to 2 at each of the six micro-batches of 4."""

    class Twice(Fails):
        def forward(self, x):
            if self.training and len(x) == 8:
                raise torch.OutOfMemoryError("too large")
            return super().forward(x)

    trainer, twin = make(Twice(at, "backward"), "auto", accumulate=3), make(None, 2, accumulate=3)
    fit(trainer, data_loader(24, 8), 2)
    fit(twin, data_loader(24, 8), 2)
    assert trainer.accumulator.micro_batch == 2
    assert torch.equal(parameters_of(trainer.model), parameters_of(twin.model))


def test_random_state_after_the_fit_is_that_of_the_smaller_run():
    states = []
    for trainer in (make(Fails(2, "forward"), "auto", accumulate=2), make(None, 4, accumulate=2)):
        fit(trainer, data_loader(32, 8), 1)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_the_size_is_found_once_kept_in_the_checkpoint_and_grows_when_asked(tmp_path):
    fails = Fails(0, "forward", limit=3)
    trainer = make(fails, "auto", accumulate=2, checkpoint_dir=tmp_path)
    trainer.fit(data_loader(32, 8), 2)
    assert trainer.accumulator.micro_batch == 2
    assert fails.calls == 2 + 2 * 16  # 8 and 4 failed at once; all the rest were of 2
    again = make(Fails(0, "forward", limit=3), "auto", accumulate=2, checkpoint_dir=tmp_path)
    again.fit(data_loader(32, 8), 3)
    assert again.model[3].calls == 16
    again.grow_micro_batch()
    assert again.accumulator.micro_batch == 4
    again.fit(data_loader(32, 8), 4)
    assert again.accumulator.micro_batch == 2
    with pytest.raises(ArgumentError, match="fixed size"):
        make(None, 4).grow_micro_batch()


def out_of_memory(module, inputs):
    raise torch.OutOfMemoryError("injected")


def test_one_sample_that_does_not_fit():
    trainer = make(Fails(0, "forward", limit=0), "auto")
    trainer.model[0].register_forward_pre_hook(out_of_memory)
    with pytest.raises(torch.OutOfMemoryError, match="one sample does not fit: injected"):
        trainer.fit([tuple(samples(8))], 1)
    assert trainer.step == 0


def test_other_errors_are_not_out_of_memory():
    assert is_out_of_memory(torch.OutOfMemoryError("x"))
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"))
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))
    trainer = make(None, "auto")
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        trainer.fit([(torch.zeros(8, 5), torch.zeros(8, dtype=torch.long))], 1)


def test_real_out_of_memory_of_the_cpu_allocator():
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 3)

        def forward(self, x):
            if len(x) > 4:
                torch.empty(1 << 60, dtype=torch.uint8)
            return self.layer(x)

    model = Wide()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    trainer = Trainer(model, optimizer, nn.CrossEntropyLoss(), micro_batch="auto", progress=False)
    trainer.fit(data_loader(16, 8), 1)
    assert trainer.accumulator.micro_batch == 4
