"""Small models and data, and the slow, obvious training step that the trainer must equal."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from largeds_native.trainer import Callback, Trainer


def small_model(seed: int = 0, *, norm: bool = False, dropout: float = 0.0) -> nn.Module:
    """A classifier of 6 numbers into 3 classes."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Linear(6, 8)]
    if norm:
        layers.append(nn.BatchNorm1d(8))
    layers += [nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 3)]
    return nn.Sequential(*layers)


def small_trainer(
    folder=None, callbacks=(), scheduler=None, optimizer=torch.optim.AdamW, lr=0.01, **options
) -> Trainer:
    """A run that draws random numbers (dropout), and has state beside its weights (BatchNorm, AdamW)."""
    model = small_model(norm=True, dropout=0.3)
    chosen = optimizer(model.parameters(), lr)
    torch.manual_seed(3)
    return Trainer(
        model,
        chosen,
        nn.CrossEntropyLoss(),
        scheduler=scheduler and scheduler(chosen),
        checkpoint_dir=folder,
        callbacks=callbacks,
        **{"progress": False} | options,
    )


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


class Stop(Exception):
    pass


class StopAt(Callback):
    """Raises Stop after this step, before its checkpoint."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, trainer, result):
        if trainer.step == self.step:
            raise Stop


class LossLog(Callback):
    """Writes each step's loss to a file, for another process, even if this one is killed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_step(self, trainer, result):
        with open(self.path, "a") as file:
            file.write(f"{trainer.step} {result.loss.hex()}\n")


def numbers(history):
    """The history without values that depend on the clock."""
    return [{k: v for k, v in logs.items() if k not in ("images_per_s", "data_share")} for logs in history]


def kill_and_resume(server, train, folder: Path, argument, kills: int):
    """Run `train(folder, argument)` in processes: once in `whole`; in `cut` killed so often at random moments.

    `train` tells its losses in the file `losses`, and leaves its weights in `weights.pt`: both must be the same.
    What comes back: the losses by step.
    """
    moments = random.Random(0)

    def run(name: str, kill_after: int | None) -> int:
        told = folder / name / "losses"
        told.parent.mkdir(exist_ok=True)
        told.touch()
        before = told.read_text().count("\n")
        process = server.Process(target=train, args=(told.parent, argument))
        process.start()
        if kill_after is not None:
            while told.read_text().count("\n") < before + kill_after and process.is_alive():
                time.sleep(0.001)
            time.sleep(moments.random() * 0.02)
            process.kill()
        process.join()
        return process.exitcode

    assert run("whole", None) == 0
    codes = [run("cut", moments.randint(2, 5)) for _ in range(kills)]
    assert run("cut", None) == 0
    lines = {name: (folder / name / "losses").read_text().splitlines() for name in ("whole", "cut")}
    whole, cut = ([tuple(line.split()) for line in lines[name]] for name in ("whole", "cut"))
    expected = dict(whole)
    assert codes == [-signal.SIGKILL] * kills
    assert dict(cut) == expected
    assert all(expected[step] == loss for step, loss in cut)  # those that were trained twice, too
    weights = [torch.load(folder / name / "weights.pt", weights_only=True) for name in ("cut", "whole")]
    assert torch.equal(*weights)
    return expected
