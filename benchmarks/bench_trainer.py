"""What does the trainer cost beside a hand-written loop, and how much memory does accumulation take?

All contenders train the same model from the same weights on the same DataLoader with accumulate=4. The loop written by
hand is the correct one: each batch weighs by its samples, the last partial group too. Peers that are not installed are
named and left out: `pip install lightning accelerate`.

The memory is the peak of what torch's CPU allocator holds during a step, read from its own allocation records.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import importlib.util
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from harness import RESULTS, Contender, console, machine_facts, options_parser, report, take_turns
from rich.table import Table
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader, TensorDataset

from largeds_native.measure import ratio, write_json
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


def fresh_batches(count: int, size: int, batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches that exist only while they are used, as a loader's do."""
    for _ in range(count):
        yield torch.randn(batch_size, 3, size, size), torch.zeros(batch_size).long()


def plain_step(model: nn.Module, batches: Any, optimizer: torch.optim.Optimizer, *, keep_gradients: bool) -> None:
    """One batch, one step, by hand. `keep_gradients`: as after `zero_grad(set_to_none=False)`, they exist before it."""
    if keep_gradients:
        allocate_gradients(model)
    for inputs, targets in batches:
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        optimizer.zero_grad()


def allocate_gradients(model: nn.Module) -> None:
    for p in model.parameters():
        p.grad = torch.zeros_like(p)


def with_momentum(model: nn.Module) -> torch.optim.Optimizer:
    """An optimizer whose own memory is there already."""
    optimizer = sgd(model)
    allocate_gradients(model)
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


def peak_bytes(run: Callable[[], object]) -> int:
    """The most bytes that torch's CPU allocator holds at once beyond what it held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as records:
        run()
    held = peak = 0
    events = (e for e in records.profiler.kineto_results.events() if e.name() == "[memory]")
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def measure_memory(make: Callable[[], nn.Module], size: int, batch: int) -> tuple[int, int, int, int]:
    """(one micro-batch, one with gradients kept, the Trainer's step of eight, the gradients) in bytes."""
    peaks = []
    for keep in (False, True):
        model = make().train()
        step = functools.partial(plain_step, model, fresh_batches(1, size, batch), with_momentum(model))
        peaks.append(peak_bytes(functools.partial(step, keep_gradients=keep)))
    model = make()
    trainer = Trainer(model, with_momentum(model), nn.CrossEntropyLoss(), accumulate=8, progress=False)
    eight = peak_bytes(lambda: trainer.fit(fresh_batches(8, size, batch), 1))
    return peaks[0], peaks[1], eight, sum(p.numel() * p.element_size() for p in model.parameters())


def report_memory() -> None:
    """Where gradients are dropped after each step, none exist in the forward; while they accumulate, they must."""
    table = Table(
        title="Peak memory of a step beyond model and optimizer: accumulate=8 against one micro-batch, by hand"
    )
    columns = ("", "1 micro-batch", "1, gradients kept", "Trainer, 8", "ratio", "to gradients kept", "the gradients")
    for column in columns:
        table.add_column(column, justify="left" if not column else "right")
    rows = []
    for name, make, size, batch in (
        ("small CNN, 32x32, batch 64", small_cnn, 32, 64),
        ("resnet18, 128x128, batch 16", resnet18, 128, 16),
        ("resnet18, 224x224, batch 64", resnet18, 224, 64),
    ):
        one, kept, eight, gradients = measure_memory(make, size, batch)
        mib = [f"{n / 2**20:,.1f} MiB" for n in (one, kept, eight, gradients)]
        table.add_row(name, *mib[:3], f"{eight / one:.3f}", f"{eight / kept:.3f}", mib[3])
        rows.append({"name": name, "one": one, "one_gradients_kept": kept, "eight": eight, "gradients": gradients})
    console.print(table)
    content = {"question": str(table.title), "unit": "bytes", "machine": machine_facts(), "results": rows}
    write_json(RESULTS / "trainer-memory.json", content | {"date": datetime.date.today().isoformat()})


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--only", choices=["cnn", "resnet18", "memory"], help="one part of the question")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    questions = (
        ("cnn", "small CNN, 32x32, batch 64", small_cnn, loader_of(64 * 60 + 17, 32, 64), 0.95),
        ("resnet18", "resnet18, 96x96, batch 16", resnet18, loader_of(16 * 4 + 5, 96, 16), 0.99),
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
