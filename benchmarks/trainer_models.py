"""The models of the trainer's benchmarks."""

from __future__ import annotations

import torch
from torch import nn


def trivial_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(4, 4)


def small_cnn() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def resnet18() -> nn.Module:
    import torchvision

    torch.manual_seed(0)
    model: nn.Module = torchvision.models.resnet18(num_classes=10)
    return model


class OnlyParameters(nn.Module):
    """The parameters of resnet18 without its computation, to measure what a loop does with parameters and gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.rest = trivial_model(), nn.ParameterList(resnet18().parameters())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(x)
        return out + 1e-3 * torch.stack([p.flatten()[0] for p in self.rest]).sum()


class ManyParameters(nn.Module):
    """As many parameters as resnet18 has, 62, of four elements each."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = trivial_model()
        self.rest = nn.ParameterList(torch.zeros(4) for _ in range(60))
        self._list = list(self.rest)  # a ParameterList is slow

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(x)
        return out + torch.stack(self._list).sum()


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    lists = True if isinstance(model, ManyParameters) else None  # what torch chooses on a GPU
    return torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, foreach=lists)
