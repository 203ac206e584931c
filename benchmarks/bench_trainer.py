"""What does the trainer cost beside a hand-written loop, and how much memory does accumulation take?

All contenders train the same model from the same weights on the same DataLoader with accumulate=4. The loop written by
hand is the correct one: each batch weighs by its samples, the last partial group too. Peers that are not installed are
named and left out: `pip install lightning accelerate`.

The memory is the peak of what torch's CPU allocator holds during a step, read from its own allocation records.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Callable
from typing import Any

import torch
from harness import Contender, console, options_parser, report, take_turns
from rich.table import Table
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader, TensorDataset

from largeds_native.measure import ratio
from largeds_native.trainer import Accumulator, Trainer

ACCUMULATE = 4


def small_cnn() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def resnet18() -> nn.Module:
    import torchvision

    torch.manual_seed(0)
    return torchvision.models.resnet18(num_classes=10)


def loader_of(images: int, size: int, batch_size: int) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(images, 3, size, size, generator=generator)
    return DataLoader(TensorDataset(pixels, torch.randint(10, (images,), generator=generator)), batch_size)


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)


def by_hand(model: nn.Module, loader: Any) -> None:
    """The correct loop: sums of losses, divided at the end by the samples that there were."""
    optimizer, loss, samples = sgd(model), nn.CrossEntropyLoss(reduction="sum"), 0

    def step() -> None:
        for p in model.parameters():
            if p.grad is not None:
                p.grad /= samples
        optimizer.step()
        optimizer.zero_grad()

    model.train()
    for i, (inputs, targets) in enumerate(loader):
        loss(model(inputs), targets).backward()
        samples += len(targets)
        if (i + 1) % ACCUMULATE == 0:
            step()
            samples = 0
    if samples:
        step()


def by_accumulator(model: nn.Module, loader: Any) -> None:
    loss = nn.CrossEntropyLoss()
    accumulator = Accumulator(model, sgd(model), accumulate=ACCUMULATE)
    model.train()
    for group in accumulator.groups(loader):
        for inputs, targets in group:
            group.backward(loss(model(inputs), targets))
        group.step()


def by_trainer(model: nn.Module, loader: Any) -> None:
    Trainer(model, sgd(model), nn.CrossEntropyLoss(), accumulate=ACCUMULATE, progress=False).fit(loader, 1)


def by_lightning(model: nn.Module, loader: Any) -> None:
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.loss = model, nn.CrossEntropyLoss()

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            return self.loss(self.model(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return sgd(self.model)

    lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        accumulate_grad_batches=ACCUMULATE,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(Module(), loader)


def by_accelerate(model: nn.Module, loader: Any) -> None:
    import accelerate

    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=ACCUMULATE)
    loss = nn.CrossEntropyLoss()
    model, optimizer, loader = accelerator.prepare(model, sgd(model), loader)
    model.train()
    for inputs, targets in loader:
        with accelerator.accumulate(model):
            accelerator.backward(loss(model(inputs), targets))
            optimizer.step()
            optimizer.zero_grad()


def contenders(make: Callable[[], nn.Module], loader: DataLoader[Any]) -> list[Contender]:
    ways: list[tuple[str, Callable[[nn.Module, Any], None], str]] = [
        ("by hand", by_hand, "peer"),
        ("Accumulator", by_accumulator, "ours"),
        ("Trainer", by_trainer, "ours"),
    ]
    peers = [("lightning", "Lightning Trainer", by_lightning), ("accelerate", "Accelerate", by_accelerate)]
    for module, name, way in peers:
        if importlib.util.find_spec(module):
            ways.append((name, way, "peer"))
        else:
            console.print(f"not measured: {name} (pip install {module})")

    def run(way: Callable[[nn.Module, Any], None]) -> int:
        way(make(), loader)
        return len(loader.dataset)  # type: ignore[arg-type]

    return [Contender(name, lambda way=way: run(way), role) for name, way, role in ways]  # type: ignore[misc, arg-type]


def peak_bytes(make: Callable[[], nn.Module], size: int, micro_batch: int, accumulate: int) -> int:
    """The most bytes that torch's CPU allocator holds at once, over two steps, model and data left out."""
    torch.manual_seed(0)
    model = make()
    trainer = Trainer(model, sgd(model), nn.CrossEntropyLoss(), micro_batch=micro_batch, progress=False)
    images, labels = torch.randn(micro_batch * accumulate, 3, size, size), torch.zeros(micro_batch * accumulate).long()
    trainer.fit([(images, labels)], 1)  # the optimizer's own memory is there from the first step on
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as records:
        trainer.fit([(images, labels)] * 2, 2)
    held = peak = 0
    events = (e for e in records.profiler.kineto_results.events() if e.name() == "[memory]")
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def report_memory() -> None:
    """With one micro-batch a step, no gradient exists during the forward; every way of accumulating holds them then."""
    table = Table(title="Peak memory of a step beyond model and data: accumulate=8 against one micro-batch")
    for column in ("", "1 micro-batch", "8 micro-batches", "ratio", "the gradients", "ratio without them"):
        table.add_column(column, justify="left" if not column else "right")
    for name, make, size, micro_batch in (("small CNN", small_cnn, 32, 64), ("resnet18", resnet18, 128, 16)):
        one, eight = (peak_bytes(make, size, micro_batch, k) for k in (1, 8))
        gradients = sum(p.numel() * p.element_size() for p in make().parameters())
        sizes = [f"{n / 2**20:.1f} MiB" for n in (one, eight, gradients)]
        without = (eight - gradients) / one
        table.add_row(name, *sizes[:2], f"{eight / one:.3f}", sizes[2], f"{without:.3f}")
    console.print(table)


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--only", choices=["cnn", "resnet18", "memory"], help="one part of the question")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    questions = (
        ("cnn", "small CNN, 32x32, batch 64", small_cnn, loader_of(64 * 60 + 17, 32, 64), 0.95),
        ("resnet18", "resnet18, 96x96, batch 16", resnet18, loader_of(16 * 12 + 5, 96, 16), 0.99),
    )
    for name, title, make, loader, target in questions:
        if options.only in (None, name):
            with contextlib.redirect_stderr(io.StringIO()):
                results = take_turns(contenders(make, loader), rounds=options.rounds)
            report(
                f"trainer-{name}",
                f"Training, {title}, accumulate=4",
                results,
                relative_to="by hand",
                target=target,
                of="Trainer",
            )
            for peer in ("Lightning Trainer", "Accelerate"):
                if any(m.name == peer for m in results):
                    console.print(f"Trainer is {ratio(results, 'Trainer', peer):.3f} times as fast as {peer}")
    if options.only in (None, "memory"):
        report_memory()


if __name__ == "__main__":
    main()
