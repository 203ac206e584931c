"""Models, optimizers and batches on other devices than they should be, and devices that fail; "meta" is the other."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import largeds_native as lds
from largeds_native.errors import ArgumentError, DeviceError
from largeds_native.trainer import Trainer
from largeds_native.trainer.memory import is_out_of_memory
from tests.trainer.helpers import samples, small_model

LOADER = [samples(8), samples(8)]


def make(model: nn.Module, parameters: Any = None, **options: Any) -> Trainer:
    optimizer = torch.optim.SGD(parameters or model.parameters(), 0.1, momentum=0.9)
    return Trainer(model, optimizer, nn.CrossEntropyLoss(), progress=False, **options)


def test_parameters_on_two_devices():
    model = small_model()
    model[-1].to("meta")
    with pytest.raises(ArgumentError, match=r"the whole model on \w+, found it on cpu, meta: call model.to\(device\)"):
        make(model)


def test_buffers_on_another_device():
    model = small_model(norm=True)
    model[1].running_mean = model[1].running_mean.to("meta")
    with pytest.raises(ArgumentError, match=r"parameters are on cpu, and buffers of it, such as .* on meta"):
        make(model)


def test_an_optimizer_of_parameters_elsewhere():
    model = small_model()
    with pytest.raises(ArgumentError, match="on cpu, and parameters of the optimizer on meta: the model was moved"):
        make(model, copy.deepcopy(model).to("meta").parameters())
    with pytest.raises(ArgumentError, match="holds none of the model's parameters: it was made for another model"):
        make(model, copy.deepcopy(model).parameters())


def test_a_model_that_is_moved_between_two_fits():
    trainer = make(small_model())
    trainer.fit(LOADER, 1)
    trainer.model.to("meta")
    with pytest.raises(ArgumentError, match="expected the whole model on cpu, found it on meta"):
        trainer.fit(LOADER, 2)


def test_an_optimizer_s_state_elsewhere():
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    trainer = Trainer(model, optimizer, nn.CrossEntropyLoss(), progress=False)
    trainer.fit(LOADER, 1)
    state = optimizer.state[model[0].weight]
    state["momentum_buffer"] = state["momentum_buffer"].to("meta")
    with pytest.raises(ArgumentError, match="the optimizer's state, such as its momentum, on meta"):
        trainer.fit(LOADER, 2)


@pytest.mark.parametrize("member", [0, 1])
def test_a_batch_without_values(member):
    batch = list(samples(8))
    batch[member] = batch[member].to("meta")
    options: dict[str, Any] = {"weight": lambda inputs, targets: 8.0}
    with pytest.raises(ArgumentError, match="a tensor on the device meta, which holds no values to send to cpu"):
        make(small_model(), **options).fit([tuple(batch)], 1)


class Fails(nn.Module):
    """Raises what torch raises when a device fails, at the second forward."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error, self.calls = error, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls == 2:
            raise self.error
        return x


def errors() -> dict[str, RuntimeError]:
    lost = "CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported"
    found = {"text": RuntimeError(lost), "library": RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")}
    kind = getattr(torch, "AcceleratorError", None)
    if kind is not None:
        found["class"] = kind(lost)
    return found


@pytest.mark.parametrize("name", errors())
@pytest.mark.parametrize("micro_batch", [None, "auto"])
def test_a_device_that_fails(name, micro_batch):
    error = errors()[name]
    trainer = make(nn.Sequential(Fails(error), *small_model()), micro_batch=micro_batch)
    with pytest.raises(
        DeviceError, match=r"cpu failed in step 1 \(step 1 of epoch 0\), or in .* late: (CUDA|cuDNN)"
    ) as e:
        trainer.fit(LOADER, 1)
    assert e.value.__cause__ is error
    assert "CUDA_LAUNCH_BLOCKING=1" in str(e.value)
    assert isinstance(e.value, (lds.LargedsError, RuntimeError))


def test_a_device_that_is_full():
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    trainer = make(nn.Sequential(Fails(error), *small_model()))
    with pytest.raises(torch.OutOfMemoryError, match=r'too little memory in step 1 .*micro_batch="auto".* CUDA out of'):
        trainer.fit(LOADER, 1)
    assert is_out_of_memory(RuntimeError("CUDA error: out of memory\nCUDA kernel errors might"))


def test_other_errors_are_left_as_they_are():
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied (8x6 and 7x8)")
    with pytest.raises(RuntimeError) as raised:
        make(nn.Sequential(Fails(error), *small_model())).fit(LOADER, 1)
    assert raised.value is error
