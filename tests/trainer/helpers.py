"""Small models and data, and the slow, obvious training step that the trainer must equal."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


def small_model(seed: int = 0, *, norm: bool = False, dropout: float = 0.0) -> nn.Module:
    """A classifier of 6 numbers into 3 classes."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Linear(6, 8)]
    if norm:
        layers.append(nn.BatchNorm1d(8))
    layers += [nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 3)]
    return nn.Sequential(*layers)


def samples(n: int, dtype: torch.dtype = torch.float32, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 6, generator=generator, dtype=dtype), torch.randint(3, (n,), generator=generator)


def data_loader(n: int = 40, batch_size: int = 8, *, shuffle: bool = False, seed: int = 1) -> DataLoader:
    return DataLoader(TensorDataset(*samples(n, seed=seed)), batch_size, shuffle=shuffle)


def parameters_of(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def gradient_of_full_batch(model: nn.Module, loss: nn.Module, inputs: Tensor, targets: Tensor) -> list[Tensor]:
    """The gradient that every way of accumulating must give."""
    gradients = torch.autograd.grad(loss(model(inputs), targets), list(model.parameters()))
    return [g.detach() for g in gradients]


class Capture(torch.optim.Optimizer):
    """An optimizer that remembers the gradients of each step, and does plain gradient descent."""

    def __init__(self, parameters, lr: float = 0.1) -> None:
        super().__init__(list(parameters), {"lr": lr})
        self.seen: list[list[Tensor]] = []

    @torch.no_grad()
    def step(self, closure=None) -> None:
        parameters = [p for group in self.param_groups for p in group["params"]]
        self.seen.append([p.grad.clone() for p in parameters])
        for p in parameters:
            p.sub_(p.grad, alpha=self.param_groups[0]["lr"])
