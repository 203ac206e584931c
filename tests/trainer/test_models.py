"""Common models: torchvision's, timm's, and compiled ones."""

from __future__ import annotations

import math
import shutil

import pytest
import timm
import torch
import torchvision
from torch import nn

from largeds_native.trainer import EMA, Trainer
from tests.trainer.helpers import data_loader, parameters_of, small_model

needs_compiler = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile's inductor needs a C++ compiler"
)


def make(model, lr=0.01, loss=None, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9)
    return Trainer(model, optimizer, loss or nn.CrossEntropyLoss(), progress=False, **options)


def accuracy(outputs, targets):
    return (outputs.argmax(1) == targets).double().mean()


IMAGES = {
    "resnet18 of torchvision": lambda: torchvision.models.resnet18(num_classes=4),
    "resnet10t of timm": lambda: timm.create_model("resnet10t", num_classes=4),
    "vit_tiny of timm": lambda: timm.create_model(
        "vit_tiny_patch16_224", img_size=32, depth=2, num_classes=4, drop_path_rate=0.2
    ),
}


@pytest.mark.parametrize("name", IMAGES)
def test_a_model_of_a_library(name):
    """It overfits four images, in micro-batches, with EMA and metrics."""
    torch.manual_seed(0)
    model = IMAGES[name]()
    images, labels = torch.randn(6, 3, 32, 32), torch.tensor([0, 1, 2, 3, 0, 1])
    trainer = make(model, micro_batch=3, metrics={"accuracy": accuracy}, callbacks=[EMA(0.5)])
    history = trainer.fit([(images, labels)] * 3, 3, [(images, labels)])
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert math.isfinite(history[-1]["val_loss"])


def test_timm_s_losses_scheduler_and_mixup():
    """As in timm's training script: soft targets, label smoothing, a scheduler stepped per epoch."""
    from timm.data import Mixup
    from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy

    mixup = Mixup(mixup_alpha=0.2, num_classes=3)
    images, labels = torch.randn(8, 3, 8, 8), torch.randint(3, (8,))
    for loss, batch in (
        (SoftTargetCrossEntropy(), mixup(images.clone(), labels)),
        (LabelSmoothingCrossEntropy(), (images, labels)),
    ):
        model, twin = (nn.Sequential(nn.Flatten(), small_model_of_images()) for _ in range(2))
        make(model, loss=loss, micro_batch=3).fit([batch], 3)
        make(twin, loss=loss).fit([batch], 3)
        torch.testing.assert_close(parameters_of(model), parameters_of(twin))


def small_model_of_images() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(192, 3)


def test_torch_compile_without_a_compiler():
    model = small_model()
    trainer, twin = make(torch.compile(model, backend="eager"), micro_batch=4), make(small_model(), micro_batch=4)
    trainer.fit(data_loader(), 1)
    twin.fit(data_loader(), 1)
    torch.testing.assert_close(parameters_of(model), parameters_of(twin.model))
    assert set(trainer.state_dict()["model"]) == set(model.state_dict())


@needs_compiler
def test_torch_compile_with_inductor(tmp_path, monkeypatch):
    """Groups of three batches in micro-batches of 4; the last batch has 7, so its last micro-batch has 3 samples."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.compiler.reset()
    kwargs = {"lr": 0.1, "accumulate": 3, "micro_batch": 4}
    # dynamic from the start, as it becomes by itself at the second size: one compilation is slow enough for a test
    trainer, twin = make(torch.compile(one_layer(), dynamic=True), **kwargs), make(one_layer(), **kwargs)
    trainer.fit(data_loader(31, 8), 2)
    twin.fit(data_loader(31, 8), 2)
    torch.testing.assert_close(parameters_of(trainer.model), parameters_of(twin.model))
    assert torch._dynamo.utils.counters["inductor"]
    torch.compiler.reset()


def one_layer() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 3), nn.Tanh())
